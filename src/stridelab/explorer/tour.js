// Eight steps for a class: each sets the page up, says what to look at, and gives a thing to try.
const TOUR = (() => {
  "use strict";

  const strides = (plan, values) => {
    const layers = plans.editable(plan);
    return Object.fromEntries(layers.map((layer, index) => [layer.name, { stride: values[Math.min(index, values.length - 1)] }]));
  };
  const all = (plan, edit) => Object.fromEntries(plans.editable(plan).map((layer) => [layer.name, edit]));
  const both = (some, others) => Object.fromEntries(Object.keys({ ...some, ...others }).map((name) => [name, { ...some[name], ...others[name] }]));

  return [
    {
      title: "A stride is the distance between two windows",
      words: "Each unit of a map looks at a small window of the map before it. With stride 1 the next unit's window starts one column further on; with stride 2, two columns.",
      task: "Point at a unit of the first map, then at its neighbour, and watch the orange window on the image. Then set the first layer's stride to 2 and do it again.",
      sides: (plan) => [strides(plan, [1]), {}],
      compare: false,
    },
    {
      title: "A larger stride makes a smaller map",
      words: "A map has floor((size + padding - window) / stride) + 1 units a side: 7 pixels and a window of 3 give 5 units at stride 1 and 3 at stride 2.",
      task: "Predict the size of the last map before you choose a stride; the table tells whether you were right. Which strides are refused, and why?",
      sides: (plan) => [strides(plan, [1]), strides(plan, [2])],
      compare: true,
    },
    {
      title: "Strides save work",
      words: "A layer multiplies once for every unit, channel and weight. Half as many units a side are a quarter of the multiplications (MACs), in this layer and in all that follow.",
      task: "Compare the MACs of A and B. Move the stride of 2 from the first layer to the last: why is less saved?",
      sides: (plan) => [strides(plan, [1]), strides(plan, [2, 1])],
      compare: true,
    },
    {
      title: "Strides widen what a unit sees",
      words: "The receptive field is the part of the image that a unit can react to. Behind a stride of 2 every further window steps over two pixels, so the field grows twice as fast.",
      task: "Point at a unit of the last map and look at its field on the image, in A and in B. Then reach B's field in A with dilation alone.",
      sides: (plan) => [strides(plan, [1]), strides(plan, [1, 2])],
      compare: true,
    },
    {
      title: "Strides lose detail",
      words: "A coarser map has fewer places to put what it found. Red columns are worse: no window ever reads them.",
      task: "Find the red: there the last window does not reach the edge. Then make more of it: give a layer a stride that is larger than its kernel.",
      sides: (plan) => [all(plan, { padding: "valid" }), both(all(plan, { padding: "valid" }), strides(plan, [3, 1]))],
      compare: true,
    },
    {
      title: "Padding works with the stride",
      words: "Blue is padding. Without it maps shrink and pixels at the edge are read less often. With an even size and a stride of 2, symmetric padding reads more on one side than on the other.",
      task: "Swap the padding between valid, half, same and same_lower, and find the layers that say 'uneven pad'.",
      sides: (plan) => [all(plan, { padding: "valid" }), all(plan, { padding: "same" })],
      compare: true,
    },
    {
      title: "The number of parameters stays",
      words: "A filter is the same filter at any stride. What changes is how often it is applied, so MACs and memory fall and parameters do not; unless a layer reads the flattened map.",
      task: "Change all strides and watch 'parameters'. Then look at the filter itself as it slides, below the maps.",
      sides: (plan) => [strides(plan, [1]), strides(plan, [2])],
      compare: true,
      slide: true,
    },
    {
      title: "Bigger maps are not always better",
      words: "These networks were trained, several times each. Choose two of them and compare their accuracy with its interval, not only their maps; finer maps cost more and need not classify better.",
      task: "Draw something, or choose a test image on which the two disagree. Does the difference in accuracy exceed its interval? If not: 'undecided' is the answer.",
      sides: null,
      compare: true,
    },
  ];
})();
