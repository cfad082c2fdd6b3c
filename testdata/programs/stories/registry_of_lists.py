"""A module's dict, never emptied: by user, a list of the sessions that were opened."""

import story


class Session:
    def __init__(self, user, number):
        self.user = user
        self.token = "%032x" % number
        self.basket = ["article-%d" % (number + k) for k in range(8)]


sessions = {}
for number in range(30000):
    sessions.setdefault("user-%d" % (number % 1000), []).append(Session(number % 1000, number))
story.tell(sessions.clear, type="__main__.Session", path="__main__.sessions", count=30000)
