"""The functions that a recipe may fill a prompt's field with, by name: fields = {field = "name()"}.

The code of each stands in omr/data/by_recipe/formulas.py. A new one gets its name here and its code there.
"""

# name -> what it gives
FORMULAS = {
    "execution_count": "how many code executions the solution's prompt allowed, as NeMo-Skills reads it",
}
