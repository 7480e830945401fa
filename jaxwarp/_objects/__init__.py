"""Objects in images: boxes that are warped in place, cut out, or pasted into.

K objects belong to N images, as ``obj_to_img`` says. From the top down: `warp`, `crop` and
`paste` are what can be done to them; `redraw` draws one object after the other into its
image; `windows` takes a window out of an array and puts it back, with derivatives that do
the same in place; `regions` are the whole pixels that objects take up, and `boxes` the real
numbers that `crop` and `paste` are given. `arguments` checks what all three are given.
"""
