"""The pieces of the lesson: what it shows (`material`), the logits under the fingers (`editor`), and its steps."""
