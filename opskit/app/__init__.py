"""One short function for each thing that a person can ask for, in modules by what they are about.

Each is imported from its module: to list runs takes little of what carries one out.
"""
