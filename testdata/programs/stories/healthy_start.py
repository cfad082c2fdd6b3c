"""A fresh interpreter."""

import story

story.tell(lambda: None)
