//! The words of the generated texts.

/// Words that are a topic now, were one or will be.
pub(super) const TOPIC: [&str; 216] = [
    "anchor", "apron", "arrow", "atlas", "badge", "bakery", "balloon", "bamboo", "banjo", "barley", "basin", "beacon", "beetle", "bicycle",
    "biscuit", "blanket", "blossom", "bottle", "bracelet", "bridge", "bronze", "bucket", "buffalo", "button", "cabin", "cactus", "camel",
    "candle", "canyon", "carpet", "castle", "cellar", "cello", "cherry", "chimney", "cider", "circus", "clover", "cobalt", "comet",
    "copper", "coral", "cotton", "cradle", "crater", "cricket", "crystal", "curtain", "cushion", "dagger", "daisy", "desert", "diamond",
    "dolphin", "donkey", "dragon", "drum", "eagle", "easel", "elbow", "ember", "engine", "falcon", "feather", "fennel", "ferry", "fiddle",
    "flannel", "flute", "forest", "fossil", "fountain", "galaxy", "garlic", "garnet", "geyser", "ginger", "glacier", "goblet", "granite",
    "guitar", "hammer", "harbor", "harvest", "hazel", "helmet", "heron", "honey", "horizon", "hornet", "iceberg", "igloo", "indigo",
    "island", "ivory", "jacket", "jaguar", "jasmine", "jigsaw", "jungle", "kayak", "kennel", "kettle", "kitten", "ladder", "lagoon",
    "lantern", "lavender", "lemon", "lentil", "leopard", "library", "lilac", "lizard", "lobster", "lotus", "magnet", "mango", "maple",
    "marble", "meadow", "melon", "meteor", "mirror", "mitten", "monsoon", "mosaic", "mustard", "napkin", "needle", "nickel", "nutmeg",
    "oasis", "oboe", "ocean", "olive", "onion", "orbit", "orchid", "otter", "oyster", "paddle", "panther", "papaya", "parcel", "parrot",
    "pebble", "pelican", "pepper", "piano", "pigeon", "pillow", "pistol", "planet", "plum", "pocket", "pony", "poppy", "prairie",
    "pumpkin", "puzzle", "pyramid", "quarry", "quartz", "quill", "rabbit", "radish", "raven", "ribbon", "rocket", "saddle", "saffron",
    "salmon", "satchel", "saturn", "scarf", "seagull", "shadow", "shovel", "silver", "spider", "spinach", "sponge", "squirrel", "stallion",
    "sugar", "sunset", "swallow", "teapot", "temple", "thistle", "thunder", "tiger", "timber", "tomato", "topaz", "tractor", "trumpet",
    "tulip", "tunnel", "turnip", "turtle", "umbrella", "valley", "vanilla", "velvet", "violin", "volcano", "walnut", "walrus", "whistle",
    "willow", "window", "wizard", "yogurt", "zebra",
];

/// Words that say nothing.
pub(super) const COMMON: [&str; 95] = [
    "the", "a", "of", "and", "to", "in", "is", "it", "that", "was", "for", "on", "with", "as", "they", "at", "be", "this", "from", "have",
    "or", "by", "one", "had", "not", "but", "what", "all", "were", "when", "we", "there", "can", "an", "your", "which", "their", "said",
    "if", "do", "will", "each", "about", "how", "up", "out", "them", "then", "she", "many", "some", "so", "these", "would", "other",
    "into", "has", "more", "her", "two", "like", "him", "see", "time", "could", "no", "make", "than", "first", "been", "its", "who", "now",
    "people", "my", "made", "over", "did", "down", "only", "way", "find", "use", "may", "water", "long", "little", "very", "after",
    "words", "called", "just", "where", "most", "know",
];
