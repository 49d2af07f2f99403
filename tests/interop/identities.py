"""Fresh identities for Kubo, of each kind that libp2p has."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

Identity = tuple[str, bytes]
"""A peer id, and the private key in libp2p's protobuf form, as `identity.file` keeps it."""

KINDS = ("Ed25519", "RSA", "secp256k1", "ECDSA")
#: The numbers that libp2p's protobuf has for them.
RSA, ED25519, SECP256K1, ECDSA = range(4)
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
#: A public key that is longer than this is hashed in the peer id.
INLINE = 42


def make(kind: str) -> Identity:
    """A new key of one of `KINDS`."""
    if kind == "RSA":
        number, public, private = RSA, *rsa(2048)
    elif kind == "Ed25519":
        number, public, private = ED25519, *ed25519()
    elif kind == "secp256k1":
        number, public, private = SECP256K1, *secp256k1()
    else:
        number, public, private = ECDSA, *ecdsa()
    return peer_id(protobuf(number, public)), protobuf(number, private)


def protobuf(number: int, key: bytes) -> bytes:
    return b"\x08" + varint(number) + b"\x12" + varint(len(key)) + key


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def peer_id(public: bytes) -> str:
    if len(public) <= INLINE:
        return base58(b"\x00" + varint(len(public)) + public)
    return base58(b"\x12\x20" + hashlib.sha256(public).digest())


def base58(data: bytes) -> str:
    value, text = int.from_bytes(data, "big"), ""
    while value:
        value, digit = divmod(value, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


# ASN.1


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def integer(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def public_key(algorithm: bytes, key: bytes) -> bytes:
    """The key as X.509 has it."""
    return der(0x30, der(0x30, algorithm), der(3, b"\0", key))


OID_RSA = bytes.fromhex("06092a864886f70d010101")
OID_EC = bytes.fromhex("06072a8648ce3d0201")
OID_P256 = bytes.fromhex("06082a8648ce3d030107")


def rsa(bits: int) -> tuple[bytes, bytes]:
    """Public and private key, as X.509 and PKCS #1 have them."""
    e = 65537
    while True:
        p, q = prime(bits // 2), prime(bits // 2)
        n, phi = p * q, (p - 1) * (q - 1)
        if p != q and n.bit_length() == bits and phi % e:
            break
    d = pow(e, -1, phi)
    private = der(0x30, *map(integer, (0, n, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))))
    return public_key(OID_RSA + der(5), der(0x30, integer(n), integer(e))), private


def prime(bits: int) -> int:
    while True:
        candidate = secrets.randbits(bits) | 3 << bits - 2 | 1
        # Fermat's test is enough for a key that nobody has to trust.
        if all(candidate % small for small in SMALL_PRIMES) and pow(2, candidate - 1, candidate) == 1:
            return candidate


SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


@dataclass(frozen=True)
class Curve:
    """y^2 = x^3 + ax + b over the integers modulo p, with a generator."""

    p: int
    a: int
    order: int
    generator: tuple[int, int]

    def add(self, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        """Of two points that are not each other's negative."""
        (x1, y1), (x2, y2) = one, other
        if one == other:
            slope = (3 * x1 * x1 + self.a) * pow(2 * y1, -1, self.p)
        else:
            slope = (y2 - y1) * pow(x2 - x1, -1, self.p)
        x = (slope * slope - x1 - x2) % self.p
        return x, (slope * (x1 - x) - y1) % self.p

    def multiply(self, factor: int) -> tuple[int, int]:
        """The generator so many times."""
        point = self.generator
        for bit in bin(factor)[3:]:
            point = self.add(point, point)
            if bit == "1":
                point = self.add(point, self.generator)
        return point

    def key(self) -> tuple[int, tuple[int, int]]:
        private = 1 + secrets.randbelow(self.order - 1)
        return private, self.multiply(private)


K1 = Curve(
    p=2**256 - 2**32 - 977,
    a=0,
    order=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    generator=(
        0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
        0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    ),
)
P256 = Curve(
    p=2**256 - 2**224 + 2**192 + 2**96 - 1,
    a=-3,
    order=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    generator=(
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
)


def secp256k1() -> tuple[bytes, bytes]:
    """The public point compressed, and the number."""
    private, (x, y) = K1.key()
    return bytes([2 + y % 2]) + x.to_bytes(32, "big"), private.to_bytes(32, "big")


def ecdsa() -> tuple[bytes, bytes]:
    """Of P-256, as X.509 and SEC 1 have them."""
    private, (x, y) = P256.key()
    point = b"\4" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    key = der(
        0x30, integer(1), der(4, private.to_bytes(32, "big")), der(0xA0, OID_P256), der(0xA1, der(3, b"\0", point))
    )
    return public_key(OID_EC + OID_P256, point), key


# Ed25519 (RFC 8032)

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)


def ed25519() -> tuple[bytes, bytes]:
    """The public key, and the seed with the public key behind it."""
    seed = secrets.token_bytes(32)
    number = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    number = (number & ~7 & ~(1 << 255)) | 1 << 254
    x, y = 0, 1
    for bit in bin(number)[2:]:
        x, y = edwards(x, y, x, y)
        if bit == "1":
            x, y = edwards(x, y, *BASE)
    public = (y | (x & 1) << 255).to_bytes(32, "little")
    return public, seed + public


def edwards(x1: int, y1: int, x2: int, y2: int) -> tuple[int, int]:
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P
