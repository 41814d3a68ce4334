"""The loop: what a person answers, edits and adds flows back into a result.

Each file is one idea; its public functions take a `ClusterResult` first and are its methods.
"""
