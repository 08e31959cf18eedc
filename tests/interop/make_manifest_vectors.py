#!/usr/bin/env python3
"""Writes manifest_vectors.json beside this file: model manifests with the aggregate hash as hashlib computes it."""

import hashlib
import json
from pathlib import Path


def manifest(model_id, files):
    """The aggregate is SHA-256 over the raw digests in ascending path order (bytewise)."""
    entries = [{"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "role": role} for path, content, role in files]
    ordered = sorted(entries, key=lambda entry: entry["path"].encode())
    aggregate = hashlib.sha256(b"".join(bytes.fromhex(entry["sha256"]) for entry in ordered)).hexdigest()
    return {"schema_version": 1, "model_id": model_id, "version": "1", "aggregate_sha256": aggregate,
            "total_size_bytes": sum(entry["size_bytes"] for entry in entries), "file_count": len(entries), "files": entries,
            "created_at": "2026-01-02T03:04:05Z"}


VECTORS = [
    manifest("one", [("model.gguf", b"weights", "weight")]),
    manifest("acme/several", [("z.gguf", b"z" * 1000, "weight"), ("config.json", b"{}", "config"), ("a/deep/file.bin", b"\x00\xff" * 77, "other"),
                              ("a.json", b"", "config"), ("Upper.txt", b"upper", "other"), ("aa", b"aa", "other")]),
    manifest("names", [("ünïcode.gguf", b"1", "weight"), ("space in name.txt", b"2", "other"), ("a-b", b"3", "other"), ("a/b", b"4", "other"), ("a.b", b"5", "other")]),
]

Path(__file__).with_name("manifest_vectors.json").write_text(json.dumps(VECTORS, indent=1, ensure_ascii=False) + "\n")
