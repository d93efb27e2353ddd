"""A run that went wrong, in words: its trace, its cause, and their text, page and JSON.

Lower files know nothing of higher ones::

    trace     steps, markers, blocked CPUs: data           explain   a machine that ran -> a trace
    naming    what words, values and codes are called      conflict  the two steps that decide
    places    file and line as text                        origin    the line that returned a code
    frames    accessors, and what a read decides           cause     sentences on what went wrong
    account   all that a printer takes
    wording   a step, a wait in words                      folding   which steps are shown
    history   what happened to the words at stake
    text, html, document                                   printers of an account
    failure   the account of what the explorer found

Another user makes its own ``Account`` (account.py says how) and prints it by ``text.render``,
``html.render`` and ``document.described``.
"""
