"""What the pytest plugin does for a test that uses it; docs/pytest.md.

::

    exploring  kept failures, then the search    compiling  before the first test
    running    native runs;  specs  what they    kept       failures on the disk
    turn       one native run at a time          wording    the line that runs a test again
    arena      the audit of the fixture

pytest loads shmalloc/pytest_plugin, which has the hooks, the options and the fixtures. It imports
the files here by name (loading.py) once a test is surely ours: another project may have a package
that is called ``stress``, and a package of ours in sys.modules would hide it.
"""
