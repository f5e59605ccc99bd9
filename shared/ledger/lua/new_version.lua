-- -> a version for one change, in microseconds
return versions(1)
