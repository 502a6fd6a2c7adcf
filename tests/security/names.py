"""Names that somebody else chose: each tries to be more than text somewhere."""

HOSTILE_NAMES = {
    "escape sequence": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "C1 control": "\x9b31mred",
    "formula": "=cmd|'/c calc'!A1",
    "HTML": '<img src=x onerror="window.__ran=1">',
    "script": "</script><script>window.__ran=1</script>",
    "Markdown link": "[x](javascript:window.__ran=1)",
    "LaTeX": "$\\frac{1}{0}$ and $$x$$",
    "right to left": "abc\u202edcba",
    "zero width": "a\u200bb\u2060c",
    "Vega expression": "'+(window.__ran=1)+'",
    "signal": '{"signal": "window.__ran=1"}',
    "icon": ":material/home: :red[x] :smile:",
    "very long": "long" * 100,
    "line break": "first\nsecond",
}
