"""Data sets of one file an image: one row each. No torch here.

`input_size` is what data.size is when it is null.
"""

from __future__ import annotations

from .facts import DatasetFacts, ImageFiles


def names_in(text: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()).split("; "))


_PETS = names_in(
    """
    Abyssinian; American Bulldog; American Pit Bull Terrier; Basset Hound; Beagle; Bengal; Birman; Bombay; Boxer;
    British Shorthair; Chihuahua; Egyptian Mau; English Cocker Spaniel; English Setter; German Shorthaired; Great
    Pyrenees; Havanese; Japanese Chin; Keeshond; Leonberger; Maine Coon; Miniature Pinscher; Newfoundland; Persian;
    Pomeranian; Pug; Ragdoll; Russian Blue; Saint Bernard; Samoyed; Scottish Terrier; Shiba Inu; Siamese; Sphynx;
    Staffordshire Bull Terrier; Wheaten Terrier; Yorkshire Terrier
    """
)
_FLOWERS = names_in(
    """
    pink primrose; hard-leaved pocket orchid; canterbury bells; sweet pea; english marigold; tiger lily; moon orchid;
    bird of paradise; monkshood; globe thistle; snapdragon; colt's foot; king protea; spear thistle; yellow iris;
    globe-flower; purple coneflower; peruvian lily; balloon flower; giant white arum lily; fire lily; pincushion
    flower; fritillary; red ginger; grape hyacinth; corn poppy; prince of wales feathers; stemless gentian; artichoke;
    sweet william; carnation; garden phlox; love in the mist; mexican aster; alpine sea holly; ruby-lipped cattleya;
    cape flower; great masterwort; siam tulip; lenten rose; barbeton daisy; daffodil; sword lily; poinsettia; bolero
    deep blue; wallflower; marigold; buttercup; oxeye daisy; common dandelion; petunia; wild pansy; primula;
    sunflower; pelargonium; bishop of llandaff; gaura; geranium; orange dahlia; pink-yellow dahlia?; cautleya spicata;
    japanese anemone; black-eyed susan; silverbush; californian poppy; osteospermum; spring crocus; bearded iris;
    windflower; tree poppy; gazania; azalea; water lily; rose; thorn apple; morning glory; passion flower; lotus; toad
    lily; anthurium; frangipani; clematis; hibiscus; columbine; desert-rose; tree mallow; magnolia; cyclamen;
    watercress; canna lily; hippeastrum; bee balm; ball moss; foxglove; bougainvillea; camellia; mallow; mexican
    petunia; bromelia; blanket flower; trumpet creeper; blackberry lily
    """
)
_LAND = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop"),
    *("Residential", "River", "SeaLake"),
)
_IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}

IMAGE_SETS: dict[str, DatasetFacts] = {
    "image_folder": DatasetFacts(
        input_channels=3,
        input_size=(64, 64),
        class_names=(),  # these and the counts are what data.root has
        num_train=0,
        num_test=0,
        source="image files of the user's own",
        licence="not known",
        files=ImageFiles(layout="folders", folder=""),
    ),
    "eurosat": DatasetFacts(
        input_channels=3,
        input_size=(64, 64),
        class_names=_LAND,
        num_train=21_600,
        num_test=5_400,
        source="Helber, Bischke, Dengel and Borth, EuroSAT, 2019 (RGB version; no published split)",
        licence="MIT; contains Copernicus Sentinel data",
        files=ImageFiles(layout="folders", folder="eurosat/2750", needs=_LAND, downloader="EuroSAT"),
    ),
    "imagenette": DatasetFacts(
        input_channels=3,
        input_size=(64, 64),
        class_names=tuple(_IMAGENETTE.values()),
        num_train=9_469,
        num_test=3_925,
        source="fast.ai, Imagenette (second version, 160 px), 10 classes of ImageNet",
        licence="Apache 2.0; the images under ImageNet's terms of access",
        files=ImageFiles(
            layout="folders",
            folder="imagenette2-160",
            needs=("train", "val"),
            class_folders=tuple(_IMAGENETTE),
            downloader="Imagenette",
            arguments={"size": "160px"},
        ),
    ),
    "oxford_pets": DatasetFacts(
        input_channels=3,
        input_size=(64, 64),
        class_names=_PETS,
        num_train=3_680,
        num_test=3_669,
        source="Parkhi, Vedaldi, Zisserman and Jawahar, Oxford-IIIT Pet, 2012",
        licence="CC BY-SA 4.0",
        files=ImageFiles(
            layout="pets",
            folder="oxford-iiit-pet",
            needs=("images", "annotations/trainval.txt", "annotations/test.txt"),
            downloader="OxfordIIITPet",
        ),
    ),
    "flowers102": DatasetFacts(
        input_channels=3,
        input_size=(64, 64),
        class_names=_FLOWERS,
        num_train=1_020,
        num_val=1_020,
        num_test=6_149,
        source="Nilsback and Zisserman, 102 Category Flower Dataset, 2008",
        licence="none stated by its authors",
        files=ImageFiles(
            layout="flowers",
            folder="flowers-102",
            needs=("jpg", "imagelabels.mat", "setid.mat"),
            class_folders=tuple(str(number) for number in range(1, 103)),
            downloader="Flowers102",
        ),
    ),
}
