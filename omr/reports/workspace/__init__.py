"""The page of the workspace: `inventory.take` looks at data, models and runs, `page.write` shows them."""
