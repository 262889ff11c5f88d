"""Addresses that hold a secret, or would carry the key unencrypted, are refused."""

import pytest

from tasks.sentences.address import check_endpoint
from tasks.specs import EndpointSpec, InputError

KEY = "sk-a-secret-of-this-test"


def check(url: str) -> str:
    return check_endpoint(EndpointSpec(url=url, model="m"))


@pytest.mark.parametrize(
    "url",
    ["https://api.example/v1", "http://localhost:8080/v1", "http://[::1]:1/v1", "http://127.0.0.1"],
)
def test_the_key_goes_to_an_encrypted_address_or_stays_here(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(url) == ""
    monkeypatch.setenv("COFT_ENDPOINT_KEY", f" {KEY}\n")
    assert check(url) == KEY


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("api.example/v1", "expected the base of an API"),
        ("ftp://api.example/v1", "expected the base of an API"),
        ("https://", "expected the base of an API"),
        ("https://api.example:notaport/v1", "write https://host/v1"),
        ("https://api.example/v1 \n", "expected the base of an API"),
        ("https://api.example/v1;`id`", "expected the base of an API"),
        ("https://me:hush@api.example/v1", "give the key in COFT_ENDPOINT_KEY"),
        ("https://api.example/v1?api-key=hush", "give the key in COFT_ENDPOINT_KEY"),
        ("https://api.example/v1#hush", "give the key in COFT_ENDPOINT_KEY"),
        ("http://api.example/v1", "unencrypted"),
    ],
)
def test_other_addresses_are_refused_without_what_they_hide(
    url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COFT_ENDPOINT_KEY", KEY)
    with pytest.raises(InputError, match=r"^--endpoint ") as refused:
        check(url)
    assert expected in str(refused.value)
    assert KEY not in str(refused.value)
    assert ("hush" in str(refused.value)) == ("#hush" in url)


def test_a_key_that_no_header_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFT_ENDPOINT_KEY", "sk-\u00e9\u2028x")
    with pytest.raises(InputError, match="COFT_ENDPOINT_KEY") as refused:
        check("https://api.example/v1")
    assert "sk-" not in str(refused.value)
