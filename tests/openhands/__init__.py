"""The OpenHands client as it is published, against a live server, with the real agent server in the runtimes.

They need what ``tox -e openhands`` installs, and the image that ``scripts/test-images openhands`` makes.
"""
