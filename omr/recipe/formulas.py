"""The functions that a recipe may name; a new one gets its name here, and its code there."""

# name -> what it gives. Fills a prompt's field, fields = {field = "name()"}: omr/data/by_recipe/formulas.py
FORMULAS = {
    "execution_count": "how many code executions the solution's prompt allowed, as NeMo-Skills reads it",
}
# What is the same of a problem however a row words it, same_problem = "name()": omr/data/held_out/problem.py
SAME = {
    "sum_of": "the sum that one of the tiny corpus's problems asks for",
}
