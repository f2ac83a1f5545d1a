"""From a run's text to its parts, and what is known of them before an image is seen.

What foreseeing, training and studying a run have in common: `parts.build` evaluates its blocks;
`data_checks`, `number_checks` and `rehearsal` find what cannot be right; `place` and
`stored_state` say what a stored run reads and continues with.
"""
