"""The page of the workspace: `inventory.take` looks at data files, models and runs, `page.write` shows them."""
