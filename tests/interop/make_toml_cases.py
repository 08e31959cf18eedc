#!/usr/bin/env python3
"""Writes toml_cases.json beside this file: documents with what CPython's tomllib makes of them.

Each case is {"text": ..., "value": ...} where value is null for a document that must be refused. Scalars are tagged as
{"t": "integer", "v": "42"}; date-times carry their type only. Beside the documents written here there are random changes to them,
so that the two readers are compared where nobody thought to look. The output is the same on every run.
"""

import datetime
import json
import random
import tomllib
from pathlib import Path

VALID = [
    "", "\n", "# only a comment", "a = 1", "a=1\r\nb=2\r\n", "a = 'x' # comment", "\ta\t=\t1\t",
    'title = "TOML"\n\n[owner]\nname = "Tom"\ndob = 1979-05-27T07:32:00-08:00\n\n[database]\nenabled = true\nports = [ 8000, 8001, 8002 ]\n'
    'data = [ ["delta", "phi"], [3.14] ]\ntemp_targets = { cpu = 79.5, case = 72.0 }\n\n[servers]\n[servers.alpha]\nip = "10.0.0.1"\n[servers.beta]\nip = "10.0.0.2"\n',
    'key = 1\nbare_key = 2\nbare-key = 3\n1234 = 4\n"127.0.0.1" = 5\n"character encoding" = 6\n\'quoted "value"\' = 7\n"" = 8\n',
    'fruit.name = "banana"\nfruit. color = "yellow"\nfruit . flavor = "banana"\n3.14159 = "pi"\n',
    'site."google.com" = true\na."b".\'c\' = 1\n', "apple.type = 1\norange.type = 2\napple.skin = 3\n",
    'str = "I\'m a string. \\"You can quote me\\". Name\\tJos\\u00E9\\nLocation\\tSF. \\U0001F600 \\\\ \\b\\f\\r"',
    'a = """\nRoses are red\nViolets are blue"""', 'a = """\\\n   The quick \\\n\n\n  brown fox.\\\n   """', 'a = """two quotes: "". """', 'a = """a"""""', 'a = """"x""""',
    "a = '''\nThe first newline is\ntrimmed.\n   \\ everything stays\n'''", "a = '''x'''''", "a = 'C:\\Users\\nodejs'", "a = ''\nb = \"\"\nc = ''''''\nd = \"\"\"\"\"\"",
    "a = +99\nb = 42\nc = 0\nd = -17\ne = 1_000\nf = 5_349_221\ng = 53_49_221\nh = 1_2_3_4_5\ni = +0\nj = -0\n",
    "a = 0xDEADBEEF\nb = 0xdead_beef\nc = 0o01234567\nd = 0o755\ne = 0b11010110\nf = 0x00\n", "a = 9223372036854775807\nb = -9223372036854775808\n",
    "a = +1.0\nb = 3.1415\nc = -0.01\nd = 5e+22\ne = 1e06\nf = -2E-2\ng = 6.626e-34\nh = 224_617.445_991_228\ni = -0.0\nj = 0e0\n",
    "a = inf\nb = +inf\nc = -inf\nd = nan\ne = +nan\nf = -nan\n", "a = true\nb = false\n",
    "a = 1979-05-27T07:32:00Z\nb = 1979-05-27T00:32:00-07:00\nc = 1979-05-27T00:32:00.999999-07:00\nd = 1979-05-27 07:32:00Z\ne = 1979-05-27t07:32:00z\n",
    "a = 1979-05-27T07:32:00\nb = 1979-05-27T00:32:00.999999\nc = 1979-05-27\nd = 07:32:00\ne = 00:32:00.999999\nf = 2000-02-29\ng = 1979-05-27 07:32:00\n",
    "a = [1, 2, 3]\nb = ['red', \"yellow\"]\nc = [[1, 2], [3, 4, 5]]\nd = [[1, 2], ['a']]\ne = [0.1, 1, 'x']\nf = []\ng = [\n]\nh = [1,]\ni = [\n 1, # one\n 2 # two\n , 3,\n # end\n]\n",
    "a = {}\nb = { x = 1, y = 2 }\nc = { d.e.f = 1, d.e.g = 2 }\ne = [ { x = 1 }, { x = 2 } ]\nf = { 'k' = { l = [1] } }\n",
    "[table]\n", "[a]\n[b]\n[ c . d ]\n[ e . 'f' . \"g\" ]\n", "[x.y.z.w]\n[x]\na = 1\n", "[a.b.c]\n[a.b]\n[a]\n", "[fruit]\napple.color = 1\napple.taste.sweet = true\n[fruit.apple.texture]\nsmooth = true\n",
    "[[products]]\nname = 'Hammer'\n[[products]]\n[[products]]\nname = 'Nail'\n",
    "[[fruits]]\nname = 1\n[fruits.physical]\ncolor = 2\n[[fruits.varieties]]\nname = 3\n[[fruits.varieties]]\nname = 4\n[[fruits]]\nname = 5\n[[fruits.varieties]]\nname = 6\n",
    "[a.b]\nx = 1\n[a]\nc.d = 2\n", "[a.b.c]\nz = 9\n[a]\nb.x = 1\n", "[[a.b]]\n[a]\nc = 1\n", "a.b.c = 1\na.d = 2\n", "[a]\n'b' = 1\n[a.c]\n", "a = [{b = 1}, {b = 2, c = {}}]\n",
    "ключ = 1\n".replace("ключ", "'ключ'"), "a = 'émoji 😀 \u2028'\n# ümlaut\n", "a = \"tab\there\"", "[a]#x\nb=1#y\n", "a = [ # c\n]\n", "true = 1\nfalse = 2\ninf = 3\n1e5 = 4\n2000-01-01 = 5\n",
]

INVALID = [
    "a", "a =", "a = 1 b = 2", "= 1", "a b = 1", "a = 1\na = 2", "a.b = 1\na.b = 2", "a = 1\na.b = 2", "a.b = 1\na = 2", "[a]\n[a]", "[a]\nb = 1\n[a.b]", "[a.b]\n[a]\nb = 1",
    "[a]\nb.c = 1\n[a.b]", "[a.b.c]\nz = 9\n[a]\nb.c.t = 1", "[a.b.c.d]\nz = 9\n[a]\nb.c.d.k.t = 8", "a = {}\na.b = 1", "a = {b = 1}\n[a.c]", "a = {b = {}}\na.b.c = 1", "a = []\n[[a]]", "a = [{}]\n[a.b]", "[[a]]\n[a]", "[a]\n[[a]]",
    "[[a]]\n[a.b]\n[[a.b]]", "[a.b]\n[[a.b]]", "[[a.b]]\n[a.b]", "a.b = 1\n[[a]]", "a = {b = 1, b = 2}", "a = {b = 1, b.c = 2}", "a = {b.c = 1, b = 2}", "a = {b = 1,}", "a = {\nb = 1}", "a = {b = 1\n}", "a = {,}", "a = {b}", "a = {b = 1 c = 2}",
    "[]", "[a", "[a]]", "[[a]", "[[a] ]", "[ [a]]", "[a]b = 1", "[a.]", "[.a]", "[a..b]", "[a\n]", "[a b]", "a. = 1", ".a = 1", "a..b = 1", "\"a\nb\" = 1", "\"\"\"a\"\"\" = 1", "'''a''' = 1",
    'a = "x', "a = 'x", 'a = "x\ny"', "a = 'x\ny'", 'a = """x', "a = '''x", 'a = """x""""""', 'a = "\\q"', 'a = "\\x41"', 'a = "\\u12"', 'a = "\\uD800"', 'a = "\\U00110000"', 'a = "\\', 'a = "\\\nx"', 'a = """\\q"""', 'a = """\\ x"""', "a = \"\x00\"", "a = '\x01'",
    "a = '\x7f'", "# \x00", "# \x0b", "# a\rb", "a = 1\rb = 2", "a = \"x\ry\"", "a = '''x\ry'''", "a = 'x' 'y'", "a = x", "a = True", "a = TRUE", "a = truer", "a = 01", "a = +01", "a = -01", "a = 1__0", "a = _1", "a = 1_", "a = 0x", "a = 0xg", "a = 0x_1",
    "a = 0x1_", "a = +0x1", "a = -0b1", "a = 0o8", "a = 0b2", "a = 0X1", "a = 0O1", "a = 0B1", "a = 1.", "a = .1", "a = 1.e1", "a = 1._1", "a = 1_.1", "a = 1e", "a = 1e_1", "a = 1e1.0", "a = 01.0", "a = 1.0_", "a = +-1", "a = ++1", "a = 1,2", "a = Inf", "a = NaN", "a = infinity",
    "a = 1 2", "a = 1979-05-27T", "a = 1979-5-27", "a = 1979-13-01", "a = 1979-02-30", "a = 1979-00-10", "a = 1979-01-00", "a = 1900-02-29", "a = 1979-05-27T25:00:00", "a = 1979-05-27T00:60:00", "a = 1979-05-27T00:00:61", "a = 1979-05-27T00:00", "a = 1979-05-27 07",
    "a = 1979-05-27T00:00:00.", "a = 1979-05-27T00:00:00+24:00", "a = 1979-05-27T00:00:00+1:00", "a = 1979-05-27T00:00:00+01:60", "a = 1979-05-27T00:00:00+01", "a = 1979-05-27Z", "a = 07:32", "a = 07:32:00Z", "a = 7:32:00", "a = 24:00:00", "a = 1979-05-27T00:00:00-08:00Z",
    "a = [1 2]", "a = [1,,2]", "a = [,]", "a = [,1]", "a = [1", "a = [1,", "a = [1}", "a = ]", "a = }", "a = [[1]", "a = 1]", "a = {b = 1", "[a]]\n", "a = [x]", "\ufeffa = 1", "a = 1 \x0c", "é = 1", "a=1\n\x0b", "[a.b]\na = 1\n[a.b.a]", "a = \"\\u00e\"",
]


def tag(value):
    if isinstance(value, dict):
        return {"t": "table", "v": {key: tag(item) for key, item in value.items()}}
    if isinstance(value, list):
        return {"t": "array", "v": [tag(item) for item in value]}
    if isinstance(value, bool):
        return {"t": "bool", "v": str(value).lower()}
    if isinstance(value, int):
        return {"t": "integer", "v": str(value)}
    if isinstance(value, float):
        return {"t": "float", "v": repr(value).lower()}
    if isinstance(value, str):
        return {"t": "string", "v": value}
    return {"t": "datetime"}


def beyond_us(value):
    """tomllib has integers of any size and lets floats overflow; our reader refuses both as out of range."""
    if isinstance(value, dict):
        return any(beyond_us(item) for item in value.values())
    if isinstance(value, list):
        return any(beyond_us(item) for item in value)
    return isinstance(value, int) and not -2**63 <= value < 2**63


def mutate(generator, text):
    pieces = list(text)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(len(pieces) + 1)
        kind = generator.randrange(4)
        if kind == 0 and pieces:
            del pieces[at:at + generator.randint(1, 4)]
        elif kind == 1:
            pieces.insert(at, generator.choice(list("\"'[]{}=,.#\n\r\t \\_-+:0179abeTZxu") + ['"""', "'''", "[[", "]]", "\r\n", "a.b", "[a]\n"]))
        elif kind == 2 and pieces:
            pieces[min(at, len(pieces) - 1)] = generator.choice(list("\"'[]{}=,.#\n \\_-+:019abeTZ"))
        else:
            other = generator.choice(VALID)
            pieces[at:at] = ["\n", *other]
    return "".join(pieces)


def read(text):
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def main():
    for text in VALID:
        assert read(text) is not None, text
    for text in INVALID:
        assert read(text) is None, text
    generator = random.Random(3)
    texts = VALID + INVALID + [mutate(generator, generator.choice(VALID)) for _ in range(1500)]
    cases = []
    for text in dict.fromkeys(texts):
        value = read(text)
        overflow = value is not None and "inf" in json.dumps(tag(value)) and "inf" not in text
        if value is None or not (beyond_us(value) or overflow):
            cases.append({"text": text, "value": None if value is None else tag(value)})
    Path(__file__).with_name("toml_cases.json").write_text(json.dumps(cases, separators=(",", ":")).replace('},{"text"', '},\n{"text"') + "\n")


main()
