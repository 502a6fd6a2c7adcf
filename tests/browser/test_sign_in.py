"""Several people on one Studio, with a real sign-in: who may launch, whose a run is, and what others can do to it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import psutil
import pytest

from cist_core.runs import RunStore
from cist_core.training import preset
from tests.browser.actions import FINDING, HEADING, MINUTES, fill, settle, wait_for
from tests.browser.conftest import A_CHART, wait_until_drawn
from tests.studio import free_port, running_studio

pytest.importorskip("authlib")
from tests.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, provider

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MAIN = "[data-testid=stMain]"
SIDEBAR = "[data-testid=stSidebar]"
PEOPLE = {
    "ann": {"email": "ann@lab.edu", "email_verified": True, "name": "Ann"},
    "bob": {"email": "bob@lab.edu", "email_verified": True, "name": "Bob"},
    "mallory": {"email": "ann@lab.edu", "email_verified": False, "name": "Ann"},
}


@pytest.fixture(scope="module")
def there() -> Iterator[Provider]:
    with provider() as it:
        it.claims = PEOPLE
        yield it


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunStore]:
    """As the operator sees it; whatever works there when the tests are over is ended."""
    root = tmp_path_factory.mktemp("people-runs")
    yield RunStore(root)
    for process in psutil.process_iter(["cmdline"]):
        if any(str(root) in part for part in process.info["cmdline"] or ()):
            process.kill()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, there: Provider, store: RunStore) -> Iterator[str]:
    """The address of a Studio where people of the lab sign in, at a provider that is there or at one that is not."""
    folder, port = tmp_path_factory.mktemp("studio"), free_port()
    client = f'client_id = "{CLIENT_ID}"\nclient_secret = "{CLIENT_SECRET}"\n'
    (folder / "secrets.toml").write_text(
        f"""
[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "{secrets.token_hex(32)}"
[auth.lab]
{client}server_metadata_url = "{there.metadata_url}"
[auth.gone]
{client}server_metadata_url = "http://127.0.0.1:{free_port()}/metadata"
[cist]
allowed = ["@lab.edu"]
"""
    )
    options = ("--secrets.files", str(folder / "secrets.toml"))
    with running_studio(folder, *options, port=port, CIST_RUNS=str(store.root)) as address:
        yield address


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    yield context.new_page()
    context.close()


def open_(page, address: str, sign: str = HEADING) -> None:
    page.goto(address)
    wait_until_drawn(page, sign)


def sign_in(page, user: str) -> None:
    """By the button on the page, which leads to the provider and back to the first page."""
    page.locator(MAIN).get_by_role("button", name="Sign in with Lab").click()
    page.get_by_label("User").fill(user)
    page.get_by_role("button", name="Continue").click()
    page.wait_for_selector(SIDEBAR)


def test_a_run_is_launched_by_whoever_signed_in_and_hidden_when_they_leave(page, studio, there, store) -> None:
    open_(page, f"{studio}/distill")
    assert page.get_by_text("Sign in to launch runs.").is_visible()
    assert page.get_by_role("button", name="Launch", exact=True).is_disabled()
    assert page.get_by_role("button", name="Run all 6").is_disabled()
    page.locator(MAIN).get_by_role("button", name="Sign in with Lab").click()
    page.get_by_role("button", name="Refuse").click()
    page.wait_for_selector(SIDEBAR)
    open_(page, f"{studio}/runs", sign="text=Sign in to see your runs.")
    sign_in(page, "ann")

    open_(page, f"{studio}/distill")
    fill(page, "Epochs", "1")
    fill(page, "Training images", "300")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_text("The run is in the queue").wait_for(timeout=MINUTES)
    (run,) = store.list_runs()
    assert run.owner == "ann@lab.edu"
    page.get_by_role("link", name="Watch it on Runs").click()
    page.locator(".stMarkdownBadge", has_text="finished").wait_for(timeout=3 * MINUTES)
    settle(page)
    page.get_by_role("tab", name="Export").click()
    page.get_by_role("button", name="Metrics of every epoch (CSV)").wait_for()

    page.get_by_role("button", name=re.compile("^ann@")).click()
    page.get_by_role("button", name="Sign out").click()
    wait_for(lambda: there.signed_out == 1, seconds=60)
    page.wait_for_selector(SIDEBAR)
    open_(page, f"{studio}/runs?run={run.id}", sign="text=Sign in to see your runs.")
    assert not page.locator(HEADING).count()


def test_somebody_else_sees_a_run_by_its_link_only_and_cannot_touch_it(page, studio, store) -> None:
    run = RunStore(store.root, owner="ann@lab.edu").add(preset("demo"), name="of Ann")
    store.cancel(run.id)
    wait_for(lambda: store.get(run.id).state.ended, seconds=60)  # a worker may have taken it first
    open_(page, f"{studio}/runs", sign="text=Sign in to see your runs.")
    sign_in(page, "bob")
    open_(page, f"{studio}/runs")
    assert page.get_by_text("No runs yet").is_visible()
    open_(page, f"{studio}/runs?run={run.id}")
    assert "of Ann" in page.locator(FINDING).first.inner_text()
    assert page.get_by_text("Somebody else's: to look at only.").is_visible()
    for name in ("Resume", "More", "Metrics of every epoch (CSV)"):
        assert not page.get_by_role("button", name=name, exact=True).count(), name
    assert not page.get_by_text("Log", exact=True).count()


def test_an_address_that_nobody_verified_is_nobody(page, studio) -> None:
    open_(page, f"{studio}/runs", sign="text=Sign in to see your runs.")
    sign_in(page, "mallory")
    open_(page, f"{studio}/runs", sign="text=but not on the list of those who may see your runs here")
    page.locator(MAIN).get_by_text("subject-of-mallory").wait_for(timeout=30_000)
    assert not page.get_by_text("lab.edu").count()
    assert not page.locator(HEADING).count()


def test_a_provider_that_is_down_is_told_in_a_sentence_and_the_app_goes_on(page, studio) -> None:
    open_(page, f"{studio}/runs", sign="text=Sign in to see your runs.")
    page.locator(MAIN).get_by_role("button", name="Sign in with Gone").click()
    page.get_by_text("does not answer as a sign-in provider does").wait_for(timeout=30_000)
    assert page.url.startswith(f"{studio}/runs")
    open_(page, f"{studio}/entropy", sign=A_CHART)
