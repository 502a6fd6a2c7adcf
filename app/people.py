"""Who looks at the app, and what they may do: everything where no sign-in is set up, as on one's own machine.

Streamlit signs people in. The settings in its ``secrets.toml`` are read anew on every run, so whoever is taken from the
list of those allowed is out at their next click.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import streamlit as st
from streamlit.config_option import ConfigOption
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.widgets import plain, show_error
from cist_core.errors import CistError, first_line
from cist_core.sign_in import UNNAMED, SignIn, identity, read_sign_in, secrets_there

if TYPE_CHECKING:
    from cist_core.runs import RunStore

_PROVIDER_SECONDS = 5.0
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via")
_FAULT, _SETTINGS = "_sign_in_fault", "_sign_in_settings"


# ---- what others ask -------------------------------------------------------------------------------------------------


def sign_in_configured() -> bool:
    """Whether the operator wants people to sign in; also where they have set it up in part only."""
    try:
        return _sign_in() is not None
    except CistError:
        return True


def visitor() -> str | None:
    """Who is signed in and on the list: a verified e-mail address, or issuer and subject; None: nobody."""
    try:
        sign_in = _sign_in()
    except CistError:
        return None
    who = _signed_in()
    return who if sign_in is not None and who is not None and sign_in.admits(who) else None


def on_own_machine() -> bool:
    """Whether the Studio is reached from the machine that it runs on, and no sign-in is set up.

    It listens there only, the browser has named it so, and no proxy stands between: one that passes on requests of
    others says so, or names the address that they typed.
    """
    if sign_in_configured() or not is_loopback(str(st.get_option("server.address") or "")):
        return False
    headers = st.context.headers
    if any(name in headers for name in _FORWARDED):
        return False
    named = [urlsplit(f"//{headers.get('Host', '')}").hostname, urlsplit(headers.get("Origin", "")).hostname]
    return all(name is not None and is_loopback(name) for name in named)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, and reached by nobody else."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_launch() -> bool:
    """Whether the visitor may start runs, and what else takes the machine's time."""
    return not sign_in_configured() or visitor() is not None


def may_read_server_paths() -> bool:
    """Whether the visitor may name files on the machine that the Studio runs on."""
    return not sign_in_configured() or visitor() is not None


def run_store() -> RunStore:
    """The store that acts for the visitor; for everybody where there is no sign-in.

    Raises:
        CistError: if nobody is signed in who would have to be; as `RunStore`.
    """
    from cist_core import runs  # the first picture does without it

    if not sign_in_configured():
        return runs.RunStore()
    who = visitor()
    if who is None:
        raise CistError("Runs belong to whoever started them; sign in to see and to start yours.")
    return runs.RunStore(owner=who)


# ---- what a page shows -----------------------------------------------------------------------------------------------


def require_sign_in(what: str) -> bool:
    """Whether the visitor may do what needs sign-in; if not, a sentence says so and a button leads on.

    Args:
        what: that needs it, as it goes on after "Sign in to": ``launch runs``.
    """
    try:
        sign_in = _sign_in()
    except CistError as error:
        show_error(error)
        return False
    if sign_in is None or visitor() is not None:
        return True
    if st.user.get("is_logged_in"):
        st.warning(
            f"You are signed in as {plain(_label())}, but not on the list of those who may {what} here. Ask whoever "
            "keeps this Studio to add the name below to it, or sign in as somebody else.",
            icon=":material/lock:",
        )
        st.code(_signed_in() or "(no verified e-mail address, and no subject)", language=None)
        st.button("Sign out", icon=":material/logout:", key=f"sign-out-{what}", on_click=st.logout)
    else:
        st.info(f"Sign in to {what}.", icon=":material/lock:")
        _sign_in_buttons(sign_in, what, type="primary")
    return False


def account(place: DeltaGenerator) -> None:
    """Who is signed in, and the way in and out; nothing where there is no sign-in."""
    with place:
        try:
            sign_in = _sign_in()
        except CistError as error:
            show_error(error)
            return
        if sign_in is None:
            return
        if not st.user.get("is_logged_in"):
            _sign_in_buttons(sign_in, "account", width="stretch")
            return
        with st.popover(plain(_label()), icon=":material/account_circle:", width="stretch"):
            st.caption("Runs that you start belong to")
            st.code(_signed_in() or "nobody", language=None)
            st.button("Sign out", icon=":material/logout:", key="sign-out", on_click=st.logout, width="stretch")


def _sign_in_buttons(sign_in: SignIn, key: str, **button: Any) -> None:
    """One for each provider; what stands against a click on it is said under it."""
    for name, address in sign_in.providers.items():
        st.button(
            "Sign in" if name == UNNAMED else f"Sign in with {plain(name.capitalize())}",
            icon=":material/login:",
            key=f"sign-in-{key}-{name}",
            on_click=_go_to_provider,
            args=(name, address, key),
            **button,
        )
    pressed, sentence = st.session_state.get(_FAULT, ("", ""))
    if pressed == key:
        show_error(CistError(sentence))
        del st.session_state[_FAULT]


def _go_to_provider(name: str, address: str, key: str) -> None:
    """Leave for the provider, if it is there: Streamlit would end on an empty page of its own."""
    if fault := _absence(address):
        st.session_state[_FAULT] = (key, fault)
    else:
        st.login(None if name == UNNAMED else name)


def _absence(address: str) -> str | None:
    """Why nobody can be sent to a provider; None if they can."""
    import httpx  # what Authlib will ask it with

    host = httpx.URL(address).netloc.decode()
    try:
        answer = httpx.get(address, timeout=_PROVIDER_SECONDS).raise_for_status().json()
        reason = None if "authorization_endpoint" in answer else "its metadata name no 'authorization_endpoint'"
    except (httpx.HTTPError, ValueError, TypeError) as error:
        reason = first_line(error)
    if reason is None:
        return None
    return (
        f"{host} does not answer as a sign-in provider does ({reason}). What needs no sign-in works all the same; try "
        "again in a minute, or tell the operator of this Studio."
    )


# ---- what Streamlit knows --------------------------------------------------------------------------------------------


def _sign_in() -> SignIn | None:
    """The settings, read once a run of the page: much asks for them.

    Raises:
        CistError: if they cannot be read, or are there in part only.
    """
    context = get_script_run_ctx(suppress_warning=True)
    if context is None:
        return _read_settings()
    # Streamlit begins each run, its callbacks included, with cursors of its own.
    run, settings = st.session_state.get(_SETTINGS, (None, None))
    if run is not context.cursors:
        try:
            settings = _read_settings()
        except CistError as error:
            settings = error
        st.session_state[_SETTINGS] = (context.cursors, settings)
    if isinstance(settings, CistError):
        raise settings
    found: SignIn | None = settings
    return found


def _read_settings() -> SignIn | None:
    """As `_sign_in`, from the files."""
    # Before they are read: Streamlit passes over a file that is not there, whoever named it.
    named = st.config.get_where_defined("secrets.files") != ConfigOption.DEFAULT_DEFINITION
    there = secrets_there(st.get_option("secrets.files"), named=named)
    try:
        secrets = st.secrets.to_dict()
    except (OSError, ValueError) as error:  # Streamlit's own for a file that is no TOML is one of these, too
        if not there:
            return None
        raise CistError(
            f"The secrets {', '.join(map(str, there))} cannot be read, so what needs sign-in is closed; see that each "
            "is TOML and that the Studio may read it."
        ) from error
    return read_sign_in(secrets)


def _signed_in() -> str | None:
    """Who the browser's cookie says is there, on the list or not."""
    return identity(st.user.to_dict()) if st.user.get("is_logged_in") is True else None


def _label() -> str:
    """What the signed-in person is called on screen; a name is only for the eye."""
    who = str(_signed_in())
    return who if "#" not in who else str(st.user.get("name") or st.user.get("preferred_username") or who)
