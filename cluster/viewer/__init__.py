"""What people look at: a run's trajectories, groups, tasks and curves in a browser, without any asset from the network.

`run_index` knows every stored trajectory by its scalar columns, `viewer_answers` maps an API path to JSON, `web_server`
serves it, `html_export` puts the same answers into one file. The pages are in `static/`.
"""
