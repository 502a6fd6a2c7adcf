"""Optional sign-in: what `secrets.toml` has to say for it, and who somebody is by what a provider says of them.

Streamlit signs people in (`st.login`); here is what the app and ``cist doctor`` know about it without Streamlit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cist_core.errors import CistError
from cist_core.installing import pip_install

CALLBACK = "/oauth2callback"
UNNAMED = "default"
"""What Streamlit calls the provider that stands in ``[auth]`` itself."""

_PROVIDER_KEYS = ("client_id", "client_secret", "server_metadata_url")
_SHORTEST_COOKIE_SECRET = 32
_ADDRESS = re.compile(r"https?://\S+")
# Neither of these signs: an address is never mistaken for an issuer with a subject.
_EMAIL = re.compile(r"[^\s@:#]+@[^\s@:#]+")


@dataclass(frozen=True)
class SignIn:
    """How people sign in.

    Attributes:
        providers: address of the metadata by the provider's name.
        allowed: who may: e-mail addresses, ``@domain`` for all addresses of one (both in lower case), or what else
            `identity` says; None: everybody whom a provider vouches for; empty: nobody, as when the last one is taken
            off.
    """

    providers: Mapping[str, str]
    allowed: tuple[str, ...] | None = None

    def admits(self, who: str) -> bool:
        """Whether somebody is on the list.

        Args:
            who: as `identity` writes it.

        Example:
            >>> lab = SignIn({}, ("@lab.edu",))
            >>> lab.admits("ann@lab.edu"), lab.admits("ann@evil-lab.edu"), lab.admits("https://id.org#x@lab.edu")
            (True, False, False)
        """
        domain = "@" + who.rpartition("@")[2] if _EMAIL.fullmatch(who) else who
        return self.allowed is None or who in self.allowed or domain in self.allowed


def secrets_there(files: Iterable[str | os.PathLike[str]], *, named: bool) -> list[Path]:
    """Those of the files with secrets that are there.

    Args:
        files: where Streamlit looks.
        named: whether somebody has named them, and so relies on each; the usual places may be empty.

    Raises:
        CistError: if one that was named is missing, or nobody can tell whether one is there.
    """
    there = []
    for file in map(Path, files):
        try:
            os.lstat(file)  # also of a link to nowhere: somebody meant to put secrets there
        except FileNotFoundError as error:
            if named:
                raise CistError(
                    f"The secrets {file} are named in Streamlit's option secrets.files, but they are not there, so "
                    "what needs sign-in is closed; put them there, or name others."
                ) from error
        except OSError as error:
            raise CistError(
                f"Whether there are secrets {file} cannot be told ({error.strerror or error}), so what needs sign-in "
                "is closed; let the user of the Studio look into that folder."
            ) from error
        else:
            there.append(file)
    return there


def read_sign_in(secrets: Mapping[str, Any]) -> SignIn | None:
    """How people sign in; None where nothing is said about it.

    Args:
        secrets: the content of ``secrets.toml``: ``[auth]`` as Streamlit reads it, and ``[cist] allowed``, without
            which everybody may whom a provider vouches for.

    Raises:
        CistError: if it is set up in part, naming all that is missing or wrong, but no secret.
    """
    auth, cist = secrets.get("auth"), secrets.get("cist")
    misplaced = _misplaced(secrets)
    if auth is None and not misplaced and (cist is None or cist == {}):
        return None
    allowed = _section(cist).get("allowed")  # TOML has no null, so None is said by leaving it out alone
    faults = _faults(_section(auth), allowed) + misplaced
    if faults:
        raise CistError(
            f"Sign-in is only set up in part: {'; '.join(faults)}. Until secrets.toml is mended nobody can sign in, "
            "and what needs it is closed; docs/sign-in.md says how."
        )
    providers = {name: str(section["server_metadata_url"]) for name, section in _providers(_section(auth)).items()}
    if allowed is None:
        return SignIn(providers)
    return SignIn(providers, tuple(entry if "#" in entry else entry.lower() for entry in allowed))


def identity(claims: Mapping[str, Any]) -> str | None:
    """Who somebody is: their e-mail address if the provider has verified it, else ``issuer#subject``; None if neither.

    An address that nobody has verified may be anybody's: whoever writes it into their account would be its owner here.

    Example:
        >>> identity({"iss": "https://id.org", "sub": "17", "email": "Ann@Lab.edu", "email_verified": True})
        'ann@lab.edu'
        >>> identity({"iss": "https://id.org", "sub": "17", "email": "ann@lab.edu"})
        'https://id.org#17'
    """
    email, issuer, subject = (claims.get(name) for name in ("email", "iss", "sub"))
    verified = claims.get("email_verified") in (True, "true")  # some providers write it as text
    if verified and isinstance(email, str) and _EMAIL.fullmatch(email) and email.isprintable():
        return email.lower()
    if isinstance(issuer, str) and isinstance(subject, str) and issuer and subject:
        who = f"{issuer}#{subject}"
        return who if who.isprintable() else None
    return None


def _faults(auth: Mapping[str, Any], allowed: Any) -> list[str]:
    faults = [f"[auth] lacks {key}" for key in ("redirect_uri", "cookie_secret") if not auth.get(key)]
    redirect, secret = str(auth.get("redirect_uri") or ""), str(auth.get("cookie_secret") or "")
    if redirect and not (_ADDRESS.fullmatch(redirect) and redirect.endswith(CALLBACK)):
        faults.append(
            f"redirect_uri is '{redirect}', expected the Studio's address and {CALLBACK}, such as "
            f"https://studio.example.org{CALLBACK}"
        )
    if secret and len(secret) < _SHORTEST_COOKIE_SECRET:
        faults.append(f"cookie_secret has {len(secret)} characters, expected {_SHORTEST_COOKIE_SECRET} random ones")
    for name, section in _providers(auth).items():
        where = "[auth]" if section is auth else f"[auth.{name}]"
        faults += [f"{where} lacks {key}" for key in _PROVIDER_KEYS if not section.get(key)]
        address = section.get("server_metadata_url")
        if address and not _ADDRESS.fullmatch(str(address)):
            faults.append(f"server_metadata_url of {where} is '{address}', expected an address that begins with https")
        if "_" in name:
            faults.append(f"the provider's name '{name}' has an underscore, which Streamlit does not take")
    if allowed is not None and not (
        isinstance(allowed, list | tuple) and all(isinstance(entry, str) and entry for entry in allowed)
    ):
        faults.append('allowed of [cist] is no list of texts, such as ["@lab.edu", "me@example.org"]')
    if any(find_spec(package) is None for package in ("authlib", "httpx")):
        faults.append(f"Authlib is not installed ({pip_install('auth')})")
    return faults


def _misplaced(secrets: Mapping[str, Any]) -> list[str]:
    """What was meant to say who may, and would not be heard: without a list everybody may."""
    cist, auth = secrets.get("cist"), _section(secrets.get("auth"))
    faults = []
    if cist is not None and not isinstance(cist, Mapping):
        faults.append("cist is no section; write [cist] on a line of its own, and allowed below it")
    unknown = sorted(str(key) for key in _section(cist) if key != "allowed")
    if unknown:
        faults.append(f"[cist] has {', '.join(unknown)}, but knows allowed only")
    sections = {"above all sections": secrets, "in [auth]": auth} | {
        f"in [auth.{name}]": section for name, section in auth.items() if isinstance(section, Mapping)
    }
    faults += [
        f"allowed stands {where}, but belongs in [cist]" for where, section in sections.items() if "allowed" in section
    ]
    return faults


def _providers(auth: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The providers by name; the one that stands in the section itself is there unless only others are."""
    named = {
        name: section for name, section in auth.items() if isinstance(section, Mapping) and name != "client_kwargs"
    }
    unnamed = {UNNAMED: auth} if not named or any(key in auth for key in _PROVIDER_KEYS) else {}
    return unnamed | named


def _section(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
