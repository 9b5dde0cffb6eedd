from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.settings import Settings
from runtime.signing import FILE_NAME, KEY_BYTES, signing_key
from signals.errors import Permanent


def settings(folder: Path, **given: object) -> Settings:
    return Settings.load(data_dir=folder, **given)


def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: signing_key(settings(tmp_path / "data")), range(4)))
    assert len(keys) == 1
    assert len(keys.pop()) == KEY_BYTES
    kept = tmp_path / "data" / FILE_NAME
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [path.name for path in kept.parent.iterdir()] == [FILE_NAME]


def test_another_folder_has_another_key(tmp_path: Path) -> None:
    assert signing_key(settings(tmp_path / "a")) != signing_key(settings(tmp_path / "b"))


@pytest.mark.parametrize("spoil", ["readable", "short"])
def test_a_spoilt_key_is_refused_with_what_to_do(tmp_path: Path, spoil: str) -> None:
    signing_key(settings(tmp_path))
    kept = tmp_path / FILE_NAME
    if spoil == "readable":
        kept.chmod(0o644)
    else:
        kept.write_bytes(b"short")
    with pytest.raises(Permanent, match=r"chmod 600 it|signed anew"):
        signing_key(settings(tmp_path))


def test_own_servers_need_a_key_of_their_own(tmp_path: Path) -> None:
    own = {"redis": {"url": "redis://127.0.0.1:1/0"}}
    with pytest.raises(Permanent, match="PENUMBRA_SIGNING_KEY"):
        signing_key(settings(tmp_path, **own))
    with pytest.raises(Permanent, match="at least 32"):
        signing_key(settings(tmp_path, signing_key="short", **own))
    given = "3f9ac1d07be2" * 2 + "58ac61f0"
    assert signing_key(settings(tmp_path, signing_key=given, **own)) == given.encode()
    assert not (tmp_path / FILE_NAME).exists()
