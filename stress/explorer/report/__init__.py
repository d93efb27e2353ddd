"""A failure in words: its trace, its cause, and the text, the page and the JSON made of them."""
