"""What is sealed opens only with its key, and only as what it was sealed for."""

import base64

import pytest

from styx.kit.envelope import Damaged, Keyring, NoKey, new_key

OLD, NEW = new_key(), new_key()


def test_what_was_sealed_opens_for_its_purpose_alone() -> None:
    keys = Keyring.parse(OLD)
    sealed = keys.seal(b"canary", b"project/a")
    assert b"canary" not in sealed.ciphertext + sealed.wrapped_key
    assert keys.open(sealed, b"project/a") == b"canary"
    with pytest.raises(Damaged):
        keys.open(sealed, b"project/b")
    with pytest.raises(Damaged):
        keys.open(sealed._replace(ciphertext=b""), b"project/a")


def test_an_older_key_still_opens_and_is_rotated_away() -> None:
    sealed = Keyring.parse(OLD).seal(b"canary", b"p")
    both = Keyring.parse(f"{NEW}\n{OLD}\n")
    moved = both.rewrap(sealed, b"p")
    assert both.open(sealed, b"p") == Keyring.parse(NEW).open(moved, b"p") == b"canary"
    with pytest.raises(NoKey):
        Keyring.parse(NEW).open(sealed, b"p")


@pytest.mark.parametrize("text", ["", "hunter2", base64.b64encode(b"hunter2").decode()])
def test_what_is_no_key_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="key") as error:
        Keyring.parse(text)
    assert not text or text not in str(error.value)
