"""Signatures, against the example of the specification's own libraries."""

import base64

import pytest

from styx.hooks.signing import Signer, new_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_known_example() -> None:
    assert Signer(SECRET).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY) == [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", SIGNATURE),
    ]


def test_two_secrets_sign_both() -> None:
    other = new_secret()
    headers = dict(
        Signer(f"{other} {SECRET}").headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY)
    )
    first, second = headers["webhook-signature"].split(" ")
    assert second == SIGNATURE
    assert first != second


def test_a_new_secret_is_one() -> None:
    secret = new_secret()
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert secret != new_secret()
    Signer(secret)


@pytest.mark.parametrize(
    "secret", ["", " ", "s3cret", "whsec_", "whsec_!!", "whsec_YWJj", SECRET[6:]]
)
def test_what_is_no_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError) as refused:
        Signer(secret)
    assert "s3cret" not in str(refused.value)
