"""The page of the workspace: `inventory.take` looks at every data file, model and run, `page.write` shows them."""
