"""The HTML page of a run, a soak or any other recorded hunt.

    model      what the page shows, as plain data
    gather     the model, filled from a database
    thin       long series, reduced to what a picture can show
    charts     lines as SVG; grids: heat maps and the map of the RAM
    render     the page

``shmstress report`` is the command. Nothing here measures: the samples are those of the live view.
"""
