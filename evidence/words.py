"""What the page says in words; its numbers come from the tables."""

INTRODUCTION = """\
# Findings: what people say about stride, tested

Twelve sentences that are repeated about stride and padding, each tested by an experiment that ships. Question, plan, number of
seeds and margin stood in `conf/experiment/*.yaml`, and were committed, before the first run (`git log conf/experiment`); one
arm of the first had been tried before, with two seeds and other rates, to find out what a run costs. Everything here is made
from the tables in [results/reference](../results/reference) by `make findings`; `make reference EXPERIMENT=...` trains one again.

How to read it. Every experiment compares networks that differ in what is asked, and in nothing else: for one seed they start
from the same weights and see the same batches. A contrast is counted for each seed; its mean comes with Student's 95 %
interval, an exact sign-flip test, corrected over the contrasts of the claim (Holm), and, where a margin was set, a test that it
is within it (see [statistics](statistics.md)). *Supported*: the contrasts that decide went as claimed. *Not supported*: one
went the other way. *Equivalent*: within the margin. *Undecided*: the seeds do not tell.

How far it goes. The networks are small (a few thousand parameters) and briefly trained on few images, so that everybody can
run them; accuracies are far below what such images allow ([networks](networks.md) has an ordinary one), and a longer training
may narrow or turn a difference. All images of Fashion-MNIST's test split are used, the same for all: intervals are over
seeds. The CIFAR-10 twins that the files name have not been run.
"""

ADVICE: tuple[tuple[str, str, str], ...] = (
    (
        "detail",
        "not supported",
        "Do not keep stride 1 everywhere for its own sake: on clothes it was the less accurate, also where dilation or depth gave it as wide a field as strides did, at many times the multiplications. With dilation it was ahead on silhouettes and textures (6): what detail is worth depends on your images.",
    ),
    (
        "speed",
        "supported",
        "For speed, count the multiplications first (`stridelab plan`): the order held; the factor did not have to.",
    ),
    (
        "field",
        "supported",
        "Look at the receptive field before anything else: a stride is the cheap way to widen it, and in networks this "
        "shallow nearly all of it was used.",
    ),
    (
        "padding_choice",
        "not supported",
        "Where the object stands in the middle, try no padding: here it was more accurate in every seed, and cheaper.",
    ),
    (
        "early_late",
        "not supported",
        "In a shallow network do not put the only stride last: it then widens no field, and here it lost in every seed, at a higher cost.",
    ),
    (
        "early_late",
        "supported",
        "Put the stride late, where multiplications allow it.",
    ),
    (
        "parameter_count",
        "supported for gap, not for flatten",
        "Compare strides with global average pooling. With a flatten head parameters change with the stride, and accuracy "
        "with them.",
    ),
    (
        "shift",
        "undecided",
        "If a prediction must not jump when the image moves, put a blur or a max pool ahead of the step: both were steadier "
        "in every seed. What the blur costs in accuracy is not decided.",
    ),
    (
        "shift",
        "supported",
        "If a prediction must not jump when the image moves, put a blur ahead of the step.",
    ),
    (
        "equal_compute",
        "supported",
        "With a fixed budget of multiplications, stride and train for longer.",
    ),
    (
        "pooling",
        "not supported",
        "Do not stride a convolution in place of a pool and call it the same. In a short training keep the pool: the all-convolutional network, too, was behind it.",
    ),
    (
        "pooling",
        "supported",
        "Do not stride a convolution in place of a pool and call it the same; add a convolution if the budget allows it.",
    ),
)
"""Experiment, the verdict on which it rests, and what to do."""

OTHERS = """\
`experiment=stem`, of ResNet-18 on 28 px, has tables of its own: [each step given up in its stem gained accuracy](../results/reference/stem/README.md).
Not run: `segment_stride`, `resnet20_cifar10`, `resnet18_stems_cifar10`, and the twins on CIFAR-10.
"""

FOUND: dict[str, tuple[str, str]] = {
    "speed": (
        "Measured in turns, on a virtual machine with nothing else to do. Single rounds still differed by more than a tenth, so that `stridelab benchmark` marks every figure as untrusted; the order of the medians is that of the MACs in both passes. Times fell by less than the MACs, as predicted: by about half of their factor.",
        "One processor, one thread, networks so small that other work than multiplying counts. Figures to be quoted want a machine of one's own.",
    ),
    "detail": (
        "Equal fields do not save the claim: dilated and deep networks of stride 1 have the field of 2-2-1 and stay below it. The field does count: with dilation the same network of stride 1 gains. So the field explains a part of what stride 1 lacks, and not all of it.",
        "Batch norm, a head that averages over the map, few steps: fine maps may need longer to train, and the deep arm most of all. A run of ten times the length decides that.",
    ),
    "field": (
        "Our prediction that the effective field stays below the theoretical one was wrong for 1-1-1 and 2-1-1: at the threshold of two deviations it is the whole of it in every seed.",
        "Three layers are shallow: that the effective field is a small part of the theoretical one is said of deep networks.",
    ),
    "early_late": (
        "Our prediction was wrong, too, and the other way round: the early stride was the more accurate in every seed, at a lower cost, and the gap is widest at equal multiplications. The order is that of the receptive field: a stride in the last layer widens no field, as no layer comes behind it.",
        "Three layers, of which the field is the bottleneck; in a deep network the field is wide wherever the stride is, and published tables have the early stride cost most. A network whose field exceeds the image in all arms decides between the two readings.",
    ),
    "equal_compute": (
        "Far more than not worse: with the same multiplications the strided networks see many times the images, and are ahead in every seed, by far.",
        "One pass leaves stride 1 everywhere hardly trained, which is the point of an equal budget and its limit: with a budget in which it is trained to the end, the gap is another one. Equal multiplications are not equal time: strided networks do fewer of them a second.",
    ),
    "overfit": (
        "The article's prediction and ours were both wrong: with few images it is the coarse maps whose training accuracy runs ahead of the test's, in every seed. At 450 images both are equally accurate on the test images; with more the coarse ones are ahead.",
        "The fine network, dilated to the same field, learns more slowly: its training accuracy is the lower throughout, and what is not yet learnt cannot be overfitted. A training until both fit their images alike decides.",
    ),
    "padding_choice": (
        "Our prediction was wrong: without padding the network was the more accurate in every seed, at less than half of the multiplications. No other padding differs from zeros by a verdict; circular comes nearest, and is below. The saw-tooth over the test size is there in every seed. By the geometry same_lower reads at 28 px what half reads; it was predicted to be equal to the bit and is not, as explicit pads are computed by another routine, which rounds otherwise: its row shows what a difference in rounding can look like after a training, with eight seeds.",
        "The clothes are centred on black: nothing stands at the edge that padding could save, and a field of 15 px needs none. Images with content at their edges, and deeper networks, which shrink without padding, decide.",
    ),
    "pooling": (
        "Half of the published order is here: striding the convolution in place of a pool costs accuracy in every seed. The other half is not: a convolution with a stride in the pool's place does not reach the pool with one more convolution, nor even the base model.",
        "The published networks are twelve times as wide and trained for hundreds of epochs; a strided convolution has to learn what a pool has for nothing. A training of their length decides.",
    ),
    "tiny_objects": (
        "Three seeds of seven have the finer first map ahead, four the coarser. Beside the claim: with the early stride moved, 2-2-1 was nearer than 1-2-2 in six seeds of seven, at fewer multiplications; the three contrasts of the claim corrected, that is undecided. Small objects are found worse than large ones by all three.",
        "All three are far off, 11 to 14 px in an image of 64: what a stride costs in place cannot show where the network hardly tells the object from the distractors. Wider networks, trained until the error is of the order of a map's cell, decide.",
    ),
    "texture_shape": (
        "Both contrasts point the other way, none significantly: what stride loses was more on the silhouettes. Unlike in the first experiment the fine map of equal field was the more accurate here, on both kinds of image: what a stride costs depends on the images.",
        "The three textures are near the ceiling, where nothing can be lost, so that points on the two kinds are no like measure. Textures that are harder to tell apart, or fewer images of each, and more seeds decide.",
    ),
    "parameter_count": (
        "With global average pooling the number never changes; with a flatten head it does, but not always: 1-2-2 and 2-2-1 end in maps of one size. The article's sentence needs that footnote. Beside it: in these short trainings flatten was far more accurate than gap.",
        "The flatten head has more parameters and sees where things are, both at once: this tells nothing of which counts.",
    ),
    "shift": (
        "Consistency rose in every seed, by as much with a max pool as with the blur. Accuracy with the blur is lower in five seeds of seven; the interval reaches from less than a tenth of a point to more than the point that was set.",
        "The claim's words, that a stride blurs small structure, are no measurement: the share of energy that is folded is given as aliasing. More seeds decide the accuracy.",
    ),
    "strides": (
        "Predicted, as the article has it: stride 1 everywhere keeps most detail and is the most accurate. It was not. The network is four times as large as those above and trained on the embedded images. We took the receptive field for the reason; the first experiment says that it is a part of it.",
        "",
    ),
}
"""Experiment -> what was found, and what that does not say and what would; written when the tables were there."""
