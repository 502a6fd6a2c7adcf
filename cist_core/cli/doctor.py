"""``cist doctor``: what works on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from cist_core.cli.output import add_json_option, print_json

BROKEN = 1
EXAMPLES = """\
examples:
  cist doctor
  cist doctor --json
  docker compose exec studio cist doctor

Exit code 0 if what is needed works, 1 if something is broken. Run it where the app runs, in its folder and with its
environment variables. It takes a few seconds, as it imports torch.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what works on this machine, and how to mend what does not",
        description="Look at Python and the packages, the device, the kernels, the folders and the space in them, the "
        "worker, the sample models and the sign-in.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    from cist_core.doctor import State, examine, is_usable

    checks = []
    for check in examine():
        checks.append(check)
        if not options.json:
            print(f"{check.state:<6}  {check.name:<15}  {check.sentence}", flush=True)
    usable = is_usable(checks)
    if options.json:
        print_json(
            {
                "usable": usable,
                "checks": [{"name": item.name, "state": item.state, "sentence": item.sentence} for item in checks],
            }
        )
    else:
        broken = sum(check.state is State.BROKEN for check in checks)
        print("\nWhat is needed works." if usable else f"\n{broken} thing{'s are' if broken > 1 else ' is'} broken.")
    if not usable:
        raise SystemExit(BROKEN)
