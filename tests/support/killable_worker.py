"""A worker for the tests of `mmreward.isolation.killable`: it does what it is told, however bad."""

import os
import signal
import time

from mmreward.isolation.killable import answer_jobs


def answer(job):
    match job:
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"hold": _}:
            return pow(3, 10**9) % 7  # C code that does not let go of the interpreter's lock
        case {"die": _}:
            os.kill(os.getpid(), signal.SIGKILL)
        case {"eat": number}:
            return len(bytearray(number))
        case {"gold": str()}:
            time.sleep(60)  # as a truth that sympy cannot parse in time
        case {"print": text}:
            print(text)
        case {"spin": _}:
            while True:
                pass
    return {"pid": os.getpid(), **job}


if __name__ == "__main__":
    answer_jobs(answer, lambda: None)
