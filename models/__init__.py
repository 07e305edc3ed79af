"""What is normal, how it is learned, and how far off is strange. Nothing here knows Kafka."""
