"""Prints the path that the demo's question took: who could read what, who answered, what it cost."""

import json
import sys
from pathlib import Path

folder, url, model = Path(sys.argv[1]), sys.argv[2], sys.argv[3]


def read(name):
    try:
        return json.loads((folder / name).read_text())
    except (OSError, ValueError):
        return {}


def bold(text):
    return f"\033[1m{text}\033[0m"


def usd(micro):
    return f"${micro / 1e6:.6f}"


stats = next((json.loads(line) for line in (folder / "stats").read_text().splitlines() if line.startswith("{")), {})
providers = read("attestation.json").get("providers", [])
usage = (read("usage.json").get("usage") or [{}])[0]
ledger = read("ledger.json").get("entries", [])

print(bold("The path it took"))
print("""
  you ──HTTP──▶ coordinator ──sealed box──▶ provider ──▶ llama.cpp
      ◀──SSE──             ◀──sealed box──          ◀──

  hop                         can read the prompt and the answer
  you to coordinator          you and the coordinator (add TLS or the sealed transport on a real network)
  coordinator                 in memory, wiped when the request ends; never on disk, never in a log
  coordinator to provider     nobody in between: X25519 + XSalsa20-Poly1305, a fresh key for this one request
  provider process            only that process: no core dumps, no debugger, no other user
  database                    nobody: it holds counts and amounts, no text
""")
print(bold("Who could have answered"))
for provider in providers:
    protection = provider.get("key_protection") or "unknown"
    print(f"  {provider.get('chip_name', '?')}: trust {provider.get('trust_level')}, {provider.get('status')}, signing key: {protection}, platform {provider.get('platform', '?')}")
    print(f"    encryption key {provider.get('encryption_public_key', '?')}")
print("  self_signed means: the machine's own key signed its state and answered a fresh challenge. Hardware trust needs a Mac.")
print()
print(bold("What it took"))
print(f"  {stats.get('prompt_tokens', '?')} prompt + {stats.get('completion_tokens', '?')} answer tokens, first token after {stats.get('first_token_ms', 0):.0f} ms, "
      f"{stats.get('tokens_per_s', 0):.1f} tokens/s")
if usage.get("cost_micro_usd") is not None:
    print(f"  charged {usd(usage['cost_micro_usd'])} ({usage['cost_micro_usd']} micro-dollars); balance now ${read('balance.json').get('balance_usd', '?')}")
if ledger:
    print()
    print(bold("The ledger rows (they sum to zero)"))
    for entry in ledger:
        print(f"  {entry['type']:<20} {entry['account']:<32} {entry['amount_micro_usd']:>10}")
    print(f"  {'sum':<53} {sum(entry['amount_micro_usd'] for entry in ledger):>10}")
print()
print(bold("Call it yourself"))
key = (folder / "key").read_text().strip()
print(f"""  curl {url}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"model":"{model}","messages":[{{"role":"user","content":"Name three colours."}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  print(client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "Name three colours."}}]).choices[0].message.content)""")
