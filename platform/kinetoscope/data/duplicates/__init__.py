"""Near-duplicate clips: a signature per clip, an index that proposes pairs, a comparison.

A signature holds small pictures of a few frames, and 64-bit hashes of these frames and of regions
around their keypoints. Clips with a hash nearly in common are proposed as a pair; the region's
place in both says how one picture lies in the other, mirrored or cropped. The comparison of the
small pictures then decides.
"""
