"""Offline inference: many images, and a table of their classes.

folders --job--> shards --engine--> rows --job--> part files --table--> one file

`python -m cnnrt run model.bin FOLDER --output OUT.parquet` starts it. The engine is this machine's
processes or a Ray cluster; the table is the same. `Predictor` is the part that Ray Data and Spark
call on their own batches.
"""
