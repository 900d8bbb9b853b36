"""An OpenAI-compatible server of a model: started here and ended again, or one that runs already.

The others call `choose.server_for`, which gives a Server, and ask it through `client.Client`. vllm.py serves
on GPUs, hugging_face.py where there are none, process.py keeps what either starts.
"""
