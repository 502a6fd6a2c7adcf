"""Teachers that other libraries built, and networks whose code is not at hand.

One module a source, each with one function that returns a `Teacher`. The libraries are extras of the
project and are imported when a teacher of theirs is opened. No module runs code that came with the weights.
"""
