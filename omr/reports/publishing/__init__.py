"""A final model on the hub: `make publish`.

`publication.prepare` gathers the files of final/ with their card, and refuses what is not fit to be shown;
`leaks` finds secrets and paths of this machine in them; `upload.publish` brings them there in one commit.
"""
