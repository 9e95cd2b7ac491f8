"""Classes of COCO: 90 ids, of which the data sets of 2014 and 2017 use 80."""

# names of the ids 1 to 90, those that are not used by their official names
CLASSES = tuple(
  """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, street sign, stop sign,
  parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, hat, backpack, umbrella, shoe,
  eye glasses, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
  surfboard, tennis racket, bottle, plate, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli,
  carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, mirror, dining table, window, desk, toilet, door, tv,
  laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, blender, book, clock, vase,
  scissors, teddy bear, hair drier, toothbrush""".replace("\n  ", " ").split(", ")
)
UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
# names by the ids that are used
USED = {i: name for i, name in enumerate(CLASSES, 1) if i not in UNUSED}
