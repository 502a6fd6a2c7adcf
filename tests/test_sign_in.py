"""Sign-in as settings: what is complete, what is missing and in which words; and who somebody is."""

from types import SimpleNamespace

import pytest

from cist_core.errors import CistError
from cist_core.sign_in import SignIn, identity, read_sign_in, secrets_there

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
        ({"cist": {"allowed": []}}, r"\[auth\] lacks redirect_uri"),
        ({"auth": SHARED | PROVIDER, "cist": {"allow": ["@lab.edu"]}}, r"part: \[cist\] has allow, but knows allowed"),
        ({"cist": {"allow": []}}, r"\[cist\] has allow, but knows allowed only"),
        ({"auth": SHARED | PROVIDER, "cist": ["@lab.edu"]}, r"part: cist is no section; write \[cist\]"),
        ({"cist": ""}, r"cist is no section"),
        ({"auth": SHARED | PROVIDER, "allowed": ["@lab.edu"]}, r"part: allowed stands above all sections, but belongs"),
        ({"allowed": ["@lab.edu"]}, "allowed stands above all sections"),
        ({"auth": SHARED | PROVIDER | {"allowed": ["@lab.edu"]}}, r"part: allowed stands in \[auth\], but belongs in"),
        ({"auth": SHARED | {"lab": PROVIDER | {"allowed": []}}}, r"part: allowed stands in \[auth\.lab\], but belongs"),
    ],
)
def test_what_is_missing_is_named_and_no_secret_is(secrets, sentence):
    with pytest.raises(CistError, match=sentence) as caught:
        read_sign_in(secrets)
    assert "hidden" not in str(caught.value)


def test_without_authlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("cist_core.sign_in.find_spec", lambda name: None)
    with pytest.raises(CistError, match=r"Authlib is not installed \(.*pip install 'cist-studio\[auth\]'\)"):
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


def test_without_a_list_everybody_may_and_with_an_empty_one_nobody():
    everybody, nobody = (read_sign_in({"auth": SHARED | PROVIDER, "cist": cist}) for cist in ({}, {"allowed": []}))
    for who in ("ann@lab.edu", f"{ISSUER}#17"):
        assert everybody.admits(who)
        assert not nobody.admits(who)


# ---- the files -------------------------------------------------------------------------------------------------------


def test_the_usual_places_may_be_empty_and_a_named_file_may_not(tmp_path):
    there, missing = tmp_path / "there.toml", tmp_path / "missing.toml"
    there.touch()
    assert secrets_there([missing, there], named=False) == [there]
    assert secrets_there([str(there)], named=True) == [there]
    with pytest.raises(CistError, match=f"The secrets {missing} are named in .* secrets.files, but they are not there"):
        secrets_there([there, missing], named=True)


def test_a_link_to_nowhere_was_meant_to_be_secrets(tmp_path):
    link = tmp_path / "secrets.toml"
    link.symlink_to(tmp_path / "gone.toml")
    assert secrets_there([link], named=False) == [link]


@pytest.mark.parametrize("named", [False, True])
def test_a_place_that_cannot_be_looked_at_is_not_taken_for_empty(named, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cist_core.sign_in.os", SimpleNamespace(lstat=refuse))  # a mode would not keep root out
    with pytest.raises(CistError, match=r"secrets /x/secrets.toml cannot be told \(Permission denied\), so what needs"):
        secrets_there(["/x/secrets.toml"], named=named)
