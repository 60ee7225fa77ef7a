"""Hypothesis strategies for envelopes and what belongs to them."""

from hypothesis import strategies as st

from spool.envelope import Client, Envelope, Recipient
from spool.interfaces import Progress, RecipientState

# Text as it comes from outside: any bytes, those that are no UTF-8 as surrogate escapes.
text = st.one_of(
    st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)

recipients = st.builds(Recipient, text, text, text, st.integers(0, 15))

clients = st.builds(Client, *[text] * 11)

envelopes = st.builds(
    Envelope,
    sender=text,
    recipients=st.lists(recipients, max_size=4),
    arrival=st.floats(min_value=0, max_value=1e11),
    client=clients,
    full_name=text,
    eight_bit=st.booleans(),
    smtputf8=st.booleans(),
    envid=text,
    ret=text,
    verp=text,
    content_filter=text,
    redirect=text,
    inspected=st.booleans(),
    trace=text,
    expanded=text,
    size=st.integers(0, 10**14),
    message_id=text,
    warned=st.booleans(),
    encoding=text,
)

_results = (st.booleans(), text, text, text, text, st.dictionaries(text, text, max_size=3), st.none() | recipients)
states = st.builds(
    RecipientState, *_results, st.lists(st.builds(RecipientState, *_results), max_size=2).map(tuple)
)

progress = st.builds(Progress, st.integers(0, 3), states)
