"""Relevance: the percentile of a score among those of neutral queries.

calibrator       keep an index calibrated
tuner            the queries that a store's search is tuned with
calibration      the distribution of neutral scores, and a score's percentile in it
sample           images of the index as reference queries
thresholds       the verdict that a percentile gives
reference_bank   vectors of the reference queries
reference_texts  the neutral texts
"""
