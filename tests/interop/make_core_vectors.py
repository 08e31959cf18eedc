#!/usr/bin/env python3
"""Writes core_vectors.json beside this file: SipHash-1-3 and text encodings from CPython, dates from datetime, doubles from repr.

Needs CPython 3.11 or later (its bytes hash is SipHash-1-3). The output is the same on every run.
"""

import base64
import datetime
import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path


def stream(label, size):
    return hashlib.shake_256(label.encode()).digest(size)


def hash_seed(number):
    """The 128-bit key that CPython makes of PYTHONHASHSEED (bootstrap_hash.c: lcg_urandom)."""
    if number == 0:
        return bytes(16)
    x, key = number, bytearray()
    for _ in range(16):
        x = (x * 214013 + 2531011) & 0xFFFFFFFF
        key.append(x >> 16 & 0xFF)
    return bytes(key)


def siphashes():
    assert sys.hash_info.algorithm == "siphash13" and sys.hash_info.cutoff == 0
    for seed in [0, 1, 4294967295]:
        for size in [1, 7, 8, 9, 15, 16, 17, 64, 255]:
            data = stream(f"sip {seed} {size}", size)
            code = f"print(hash(bytes.fromhex('{data.hex()}')) & 0xffffffffffffffff)"
            result = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": str(seed)}, capture_output=True, check=True)
            yield {"key": hash_seed(seed).hex(), "data": data.hex(), "hash": f"{int(result.stdout):016x}"}


def encodings():
    for size in list(range(0, 20)) + [100, 1000]:
        data = stream(f"encoding {size}", size)
        yield {"hex": data.hex(), "base64": base64.b64encode(data).decode(), "base64url": base64.urlsafe_b64encode(data).decode().rstrip("=")}


def times():
    utc = datetime.timezone.utc
    chosen = [datetime.datetime(*date, tzinfo=utc) for date in [
        (1, 1, 1), (1582, 10, 15), (1899, 12, 31, 23, 59, 59), (1900, 2, 28), (1969, 12, 31, 23, 59, 59), (1970, 1, 1), (1999, 12, 31, 23, 59, 59),
        (2000, 2, 29, 12), (2000, 3, 1), (2024, 2, 29), (2026, 1, 2, 3, 4, 6), (2038, 1, 19, 3, 14, 8), (2100, 2, 28, 23, 59, 59), (2100, 3, 1),
        (9999, 12, 31, 23, 59, 59)]]
    generator = random.Random(1)
    chosen += [datetime.datetime.fromtimestamp(generator.randrange(0, 4102444800), utc) for _ in range(40)]
    epoch = datetime.datetime(1970, 1, 1, tzinfo=utc)
    for moment in chosen:
        us = (moment - epoch) // datetime.timedelta(microseconds=1)
        yield {"text": moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"), "us": us}
    for offset in [datetime.timedelta(hours=5, minutes=30), -datetime.timedelta(hours=8), datetime.timedelta(hours=14), -datetime.timedelta(minutes=1)]:
        moment = datetime.datetime(2026, 3, 1, 0, 30, 15, 123456, tzinfo=datetime.timezone(offset))
        yield {"text": moment.isoformat(), "us": (moment - epoch) // datetime.timedelta(microseconds=1), "parse_only": True}


def doubles():
    """The shortest decimal that reads back equal, with the bits it must read back to."""
    generator = random.Random(2)
    values = [0.1, 0.2, 0.3, 1 / 3, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 123456.789, 0.7, 1e16, 4503599627370497.5]
    while len(values) < 300:
        value = struct.unpack("<d", struct.pack("<Q", generator.getrandbits(64)))[0]
        if value == value and abs(value) != float("inf"):
            values.append(value)
    for value in values:
        yield {"digits": len(repr(abs(value)).split("e")[0].replace(".", "").strip("0")), "bits": f"{struct.unpack('<Q', struct.pack('<d', value))[0]:016x}",
               "text": repr(value)}


def main():
    vectors = {name: list(make()) for name, make in [("siphashes", siphashes), ("encodings", encodings), ("times", times), ("doubles", doubles)]}
    Path(__file__).with_name("core_vectors.json").write_text(json.dumps(vectors, indent=1) + "\n")


main()
