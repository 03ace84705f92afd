"""Mail: put into the outbox with the act it speaks of, sent by two workers behind the commit.

Read `words.py` (a mail, and what can be wrong with one), `templates.py` (what mails say: a typed
context for each), `mails.py` (how one is put into the outbox: what a feature calls), then
`delivering.py` (what is done with one that waits: the relay's half), `message.py` (the bytes that
leave), `sealing.py` (how what signs in lies in the outbox) and `answers.py` (what a server's code
means). `senders/` are the ways out.

Rule 1: nobody waits for a mail. It is sent behind the commit, and a mail server that is away holds
        up nothing and fails nothing.
Rule 2: what a mail says is fixed when it is put into the outbox; its date is that of its sending.
"""
