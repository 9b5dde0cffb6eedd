"""A signed file of JSON and arrays that holds data only: nothing in it can run, nothing is read before it is verified.

Layout, little-endian: magic (8) · version u16 · reserved u16 · manifest length u32 · arrays length u64 · manifest
(canonical JSON) · arrays (raw, each at a multiple of 8) · key id (8) · HMAC-SHA256 (32) over everything before it.
The key id tells which key signed, so that a rotated key is recognised; it proves nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from signals.errors import Permanent
from signals.parse import canonical_json

AnyArray = npt.NDArray[np.float64] | npt.NDArray[np.int32]

MAGIC: Final = b"PNMBNDL\x00"
VERSION: Final = 4
"""4: its records are all outcomes, timeouts too, each with its weight and the life of its label."""
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
MAX_ARRAYS: Final = 256
MIN_KEY_BYTES: Final = 32
ID_BYTES: Final = 8
TAG_BYTES: Final = 32
_HEADER: Final = struct.Struct("<8sHHIQ")
_DOMAIN: Final = b"penumbra|bundle|v2"
_ID_DOMAIN: Final = b"penumbra|bundle|key id"
_ALIGN: Final = 8
_TYPES: Final[Mapping[str, npt.DTypeLike]] = {"<i4": np.dtype("<i4"), "<f8": np.dtype("<f8")}
_INDEX: Final = "arrays"


class BundleFault(StrEnum):
    """Why a bundle is refused: stable codes."""

    ABSENT = "BUNDLE_ABSENT"
    CORRUPT = "BUNDLE_CORRUPT"
    VERSION = "BUNDLE_VERSION"
    UNSIGNED = "BUNDLE_UNSIGNED"
    NO_KEY = "BUNDLE_NO_KEY"
    SIGNATURE = "BUNDLE_SIGNATURE"
    STRATEGY = "BUNDLE_STRATEGY"
    SCHEMA = "BUNDLE_SCHEMA"
    BOUNDS = "BUNDLE_BOUNDS"
    GOLDEN = "BUNDLE_GOLDEN"


class BundleRefused(Permanent):
    """A bundle that must not be served, and why. The caller keeps what it has."""

    def __init__(self, fault: BundleFault, detail: str = "") -> None:
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault = fault
        self.detail = detail

    @property
    def code(self) -> str:
        """The stable code as text."""
        return self.fault.value


def address(data: bytes) -> str:
    """The content address of a sealed file: sha256 (hex) of all its bytes.

    Parameters
    ----------
    data : bytes
    """
    return hashlib.sha256(data).hexdigest()


def seal(manifest: Mapping[str, object], arrays: Mapping[str, AnyArray], key: bytes) -> bytes:
    """Write and sign: the same content gives the same bytes.

    Parameters
    ----------
    manifest : JSON values, finite numbers only
    arrays : float64 or int32, any shape; written in the order of their names
    key : bytes, at least 32

    Raises
    ------
    ValueError : if the key is short, a number is not finite, or a limit is passed
    TypeError : if something is no JSON value or an array has another type
    """
    index, body = [], bytearray()
    for name in sorted(arrays):
        array = arrays[name]
        spelled = {"f": "<f8", "i": "<i4"}.get(array.dtype.kind, "")
        if spelled == "" or array.dtype.itemsize != int(spelled[-1]):
            raise TypeError(f"{name}: arrays are float64 or int32, not {array.dtype}")
        index.append({"name": name, "type": spelled, "shape": list(array.shape), "at": len(body)})
        body += np.ascontiguousarray(array, dtype=_TYPES[spelled]).tobytes()
        body += bytes(-len(body) % _ALIGN)
    text = canonical_json({**manifest, _INDEX: index}).encode()
    # The array section starts at a multiple of 8 as well, so that no array is copied when it is read.
    text += b" " * (-(_HEADER.size + len(text)) % _ALIGN)
    if len(index) > MAX_ARRAYS or len(text) > MAX_MANIFEST_BYTES or len(text) + len(body) > MAX_BYTES // 2:
        raise ValueError("a bundle beyond its size limits")
    signed = _HEADER.pack(MAGIC, VERSION, 0, len(text), len(body)) + text + bytes(body) + _id(key)
    return signed + _tag(signed, key)


def key_id(key: bytes) -> str:
    """The name of a signing key: hex, tells nothing about the key.

    Parameters
    ----------
    key : bytes, at least 32

    Raises
    ------
    ValueError : if the key is short
    """
    return _id(key).hex()


def unseal(data: bytes, keys: bytes | tuple[bytes, ...]) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Verify, then read. Arrays are read-only views of ``data``.

    Parameters
    ----------
    data : bytes, as ``seal`` wrote them
    keys : bytes or tuple of them, one of which it was sealed with

    Raises
    ------
    BundleRefused : CORRUPT, VERSION, UNSIGNED or SIGNATURE
    ValueError : if a key is short
    """
    manifest_bytes, array_bytes = _lengths(data)
    end = _HEADER.size + manifest_bytes + array_bytes
    signer, tag = data[end : end + ID_BYTES], data[end + ID_BYTES :]
    if len(data) in (end, end + ID_BYTES) or tag == bytes(TAG_BYTES):
        raise BundleRefused(BundleFault.UNSIGNED)
    if len(tag) != TAG_BYTES:
        raise BundleRefused(BundleFault.CORRUPT, f"{len(data)} bytes do not fit the header")
    known = {_id(key): key for key in ((keys,) if isinstance(keys, bytes) else keys)}
    if signer not in known:
        raise BundleRefused(BundleFault.SIGNATURE, f"signed with key {signer.hex()}, known here: {_listed(known)}")
    # Nothing of the content is looked at before this line.
    if not hmac.compare_digest(tag, _tag(data[: end + ID_BYTES], known[signer])):
        raise BundleRefused(BundleFault.SIGNATURE)
    text = data[_HEADER.size : _HEADER.size + manifest_bytes]
    try:
        manifest = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        if not isinstance(manifest, dict):
            raise TypeError("the manifest is no object")
        index = manifest.pop(_INDEX)
        arrays = _arrays(index, memoryview(data)[end - array_bytes : end])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleRefused(BundleFault.CORRUPT, str(error)) from error
    return manifest, arrays


def _lengths(data: bytes) -> tuple[int, int]:
    if not _HEADER.size <= len(data) <= MAX_BYTES:
        raise BundleRefused(BundleFault.CORRUPT, f"{len(data)} bytes")
    magic, version, reserved, manifest_bytes, array_bytes = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BundleRefused(BundleFault.CORRUPT, "no bundle")
    if version != VERSION:
        raise BundleRefused(BundleFault.VERSION, f"format {version}, this reader knows {VERSION}")
    if reserved != 0 or manifest_bytes > MAX_MANIFEST_BYTES:
        raise BundleRefused(BundleFault.CORRUPT, "header")
    if _HEADER.size + manifest_bytes + array_bytes > len(data):
        raise BundleRefused(BundleFault.CORRUPT, "truncated")
    return manifest_bytes, array_bytes


def _tag(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(_own(key, _DOMAIN), signed, "sha256")


def _id(key: bytes) -> bytes:
    return _own(key, _ID_DOMAIN)[:ID_BYTES]


def _own(key: bytes, domain: bytes) -> bytes:
    """A key of its own for one purpose: what is made with the same secret for another one can never pass here."""
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"a signing key has at least {MIN_KEY_BYTES} bytes")
    return hmac.digest(key, domain, "sha256")


def _listed(known: Mapping[bytes, bytes]) -> str:
    return ", ".join(signer.hex() for signer in known) or "none"


def _arrays(index: object, body: memoryview) -> dict[str, AnyArray]:
    if not isinstance(index, list) or len(index) > MAX_ARRAYS:
        raise TypeError("the array index")
    found: dict[str, AnyArray] = {}
    for entry in index:
        kind, shape, at = _TYPES[entry["type"]], entry["shape"], entry["at"]
        whole = (*shape, at)
        if len(shape) > 2 or not all(isinstance(size, int) and 0 <= size <= MAX_BYTES for size in whole):
            raise ValueError(f"array {entry['name']!r}: shape or place")
        count = math.prod(shape)
        if at % _ALIGN != 0 or at + count * np.dtype(kind).itemsize > len(body) or entry["name"] in found:
            raise ValueError(f"array {entry['name']!r} lies outside its section")
        found[entry["name"]] = np.frombuffer(body, dtype=kind, count=count, offset=at).reshape(shape)
    return found


def _refuse_constant(literal: str) -> float:
    raise ValueError(f"{literal} in the manifest")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in the manifest")
    return found
