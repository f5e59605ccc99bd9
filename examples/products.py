# %% [markdown]
# # Each product's five nearest
#
# Reads a CSV of products with the columns `sku` and `url` (others, such as `title` and `price`, become
# metadata), brings their pictures into a collection, and writes `nearest.csv`: for each product the five
# others that look most like it, with their scores.
#
# Run it cell by cell in an editor that knows `# %%`, or whole:
#
#     python examples/products.py products.csv
#
# It needs a running server (`image-search up`); IMAGE_SEARCH_URL and IMAGE_SEARCH_API_KEY say which.

# %%
import csv
import os
import sys
from pathlib import Path

from rich.progress import track

from image_search import Client

PRODUCTS = Path(sys.argv[1] if len(sys.argv) > 1 else "products.csv")
NEAREST = PRODUCTS.with_name("nearest.csv")
COLLECTION = "products"
COUNT = 5

client = Client(
    os.environ.get("IMAGE_SEARCH_URL", "http://127.0.0.1:8000"), os.environ.get("IMAGE_SEARCH_API_KEY")
)

# %% [markdown]
# The SKU is the key: run this again with a new table, and a product's new picture replaces its old one.

# %%
job = client.ingest(PRODUCTS, collection=COLLECTION, key_column="sku")
status = job.wait(progress=True)
print(f"{status.status}: {status.counts}")
for item in job.items("failed"):
    print(f"row {item.index + 1}: {item.source}: {item.code}, {item.detail}")
if status.status == "failed":
    sys.exit(f"No picture of {PRODUCTS} could be brought in: mend the rows above and run this again.")

# %% [markdown]
# Several products may have the same picture, which is stored once: each is then the other's nearest.

# %%
products = {
    image.id: [(sku, image.metadata) for sku in image.keys]
    for image in client.iter_images(collection=COLLECTION)
}


def nearest(sku: str, image_id: str) -> list[tuple[str, float]]:
    """The SKUs that look most like this one, with their cosine similarities, best first."""
    found = [(other, 1.0) for other, _ in products[image_id] if other != sku]
    for hit in client.similar(image_id, collection=COLLECTION, limit=COUNT).results:
        found += [(other, hit.score) for other, _ in products.get(hit.id, ())]
    return found[:COUNT]


# %%
with NEAREST.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["sku", "title", "rank", "nearest", "score"])
    for image_id, skus in track(products.items(), "Comparing"):
        for sku, metadata in skus:
            for rank, (other, score) in enumerate(nearest(sku, image_id), 1):
                writer.writerow([sku, metadata.get("title", ""), rank, other, f"{score:.6f}"])
print(f"{NEAREST}: {sum(map(len, products.values()))} products")
