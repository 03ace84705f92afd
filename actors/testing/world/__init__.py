"""What a simulation lets its scenario see of the real world, and what it gives instead.

    controlled, from the seed    random, Random(), generators of modules, uuid, secrets, os.urandom
    controlled, virtual time     datetime.now, utcnow, today; date.today: EPOCH and trio's clock
    refused, SimulationLeak      time.*; threads, sockets, name look-ups, processes
    left alone                   files, the environment, the order of sets of texts

- `sealed.py` all of it, around one run
- `leaks.py`  what is refused, and by whom it may be called all the same
- `chance.py` randomness and ids from the seed
- `dates.py`  dates of the virtual clock
- `names.py`  functions held by other names (`from time import time`) are found and exchanged

What is left alone differs seldom within one machine; `check_repeatable` finds it when it does. So
it does where a real function hides in C, or deep in an object: see `names.py`.

Rule: only in the thread of the simulation, only while it runs, and whole afterwards.
"""
