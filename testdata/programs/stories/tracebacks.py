"""Failed jobs keep their exception, and so every local of the functions that it went through."""

import story


def parse(number):
    document = bytearray(40000)
    if number >= 0:
        raise ValueError("job %d cannot be parsed" % number)
    return document


failures = []
for number in range(1000):
    try:
        parse(number)
    except ValueError as error:
        failures.append(error)
story.tell(failures.clear)
