"""Sign-in as settings: what is complete, what is missing and in which words; and who somebody is."""

import pytest

from cist_core.errors import CistError
from cist_core.sign_in import SignIn, identity, read_sign_in

ISSUER = "https://id.org"
PROVIDER = {"client_id": "studio", "client_secret": "hidden-one", "server_metadata_url": f"{ISSUER}/metadata"}
SHARED = {"redirect_uri": "https://studio.org/oauth2callback", "cookie_secret": "hidden-two" + 32 * "x"}

pytestmark = pytest.mark.usefixtures("authlib")


@pytest.fixture
def authlib():
    pytest.importorskip("authlib")


def test_nothing_said_means_no_sign_in():
    assert read_sign_in({}) is None
    assert read_sign_in({"database": {"password": "x"}, "cist": {}}) is None


def test_the_provider_of_the_section_itself_and_named_ones():
    assert read_sign_in({"auth": SHARED | PROVIDER}) == SignIn({"default": f"{ISSUER}/metadata"})
    named = SHARED | {"google": PROVIDER, "keycloak": PROVIDER}
    assert list(read_sign_in({"auth": named}).providers) == ["google", "keycloak"]
    assert list(read_sign_in({"auth": named | PROVIDER | {"client_kwargs": {"prompt": "login"}}}).providers) == [
        "default",
        "google",
        "keycloak",
    ]


@pytest.mark.parametrize(
    ("secrets", "sentence"),
    [
        (
            {"auth": {}},
            r"lacks redirect_uri; \[auth\] lacks cookie_secret; \[auth\] lacks client_id; .*server_meta",
        ),
        ({"auth": "google"}, r"\[auth\] lacks redirect_uri"),
        ({"auth": SHARED | PROVIDER | {"client_secret": ""}}, r"part: \[auth\] lacks client_secret\. Until"),
        ({"auth": SHARED | {"google": {"client_id": "x"}}}, r"\[auth\.google\] lacks client_secret; \[auth\.google\]"),
        (
            {"auth": SHARED | PROVIDER | {"cookie_secret": "short"}},
            "cookie_secret has 5 characters, expected 32 r",
        ),
        (
            {"auth": SHARED | PROVIDER | {"redirect_uri": "https://studio.org"}},
            "'https://studio.org', expected the S",
        ),
        ({"auth": SHARED | PROVIDER | {"redirect_uri": "/oauth2callback"}}, "redirect_uri is '/oauth2callback'"),
        ({"auth": SHARED | PROVIDER | {"server_metadata_url": "id.org"}}, "is 'id.org', expected an address"),
        ({"auth": SHARED | {"my_lab": PROVIDER}}, "name 'my_lab' has an underscore"),
        ({"auth": SHARED | PROVIDER, "cist": {"allowed": "@lab.edu"}}, "allowed of .cist. is no list of texts"),
        ({"cist": {"allowed": ["@lab.edu"]}}, r"\[auth\] lacks redirect_uri"),
    ],
)
def test_what_is_missing_is_named_and_no_secret_is(secrets, sentence):
    with pytest.raises(CistError, match=sentence) as caught:
        read_sign_in(secrets)
    assert "hidden" not in str(caught.value)


def test_without_authlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("cist_core.sign_in.find_spec", lambda name: None)
    with pytest.raises(CistError, match=r"Authlib is not installed \(pip install 'cist-studio\[auth\]'\)"):
        read_sign_in({"auth": SHARED | PROVIDER})


@pytest.mark.parametrize(
    ("claims", "who"),
    [
        ({"email": "Ann@Lab.edu", "email_verified": True}, "ann@lab.edu"),
        ({"email": "ann@lab.edu", "email_verified": "true"}, "ann@lab.edu"),
        ({"email": "ann@lab.edu", "email_verified": False}, f"{ISSUER}#17"),
        ({"email": "ann@lab.edu", "email_verified": "false"}, f"{ISSUER}#17"),
        ({"email": "ann@lab.edu"}, f"{ISSUER}#17"),
        ({"email": f"{ISSUER}#18@lab.edu", "email_verified": True}, f"{ISSUER}#17"),
        ({"email": "ann@lab.edu\n", "email_verified": True}, f"{ISSUER}#17"),
        ({"email": "ann@evil.org@lab.edu", "email_verified": True}, f"{ISSUER}#17"),
        ({"email": None, "email_verified": True}, f"{ISSUER}#17"),
        ({"sub": "a\x1b[2J"}, None),
        ({"sub": None}, None),
    ],
)
def test_only_a_verified_address_is_an_identity(claims, who):
    assert identity({"iss": ISSUER, "sub": "17", **claims}) == who


def test_the_list_admits_addresses_domains_and_subjects():
    allowed = ["@Lab.edu", "Me@x.org", f"{ISSUER}#Ab"]
    sign_in = read_sign_in({"auth": SHARED | PROVIDER, "cist": {"allowed": allowed}})
    for who in ("ann@lab.edu", "me@x.org", f"{ISSUER}#Ab"):
        assert sign_in.admits(who)
    for who in ("you@x.org", "ann@sub.lab.edu", "ann@notlab.edu", f"{ISSUER}#ab", f"{ISSUER}#me@lab.edu"):
        assert not sign_in.admits(who)
