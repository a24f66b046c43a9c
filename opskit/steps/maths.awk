# Logarithm and exponential, also where awk has none: a busybox can be built without (Debian's is).
#
# Stands in front of what calculates. -v poor=1: this awk has none.

function ln(x,  twos, part, square, sum, n) {
  if (!poor) return log(x)
  for (twos = 0; x > 1.5; twos++) x /= 2
  for (; x < 0.75; twos--) x *= 2
  part = (x - 1) / (x + 1); square = part * part
  for (n = 1; n < 40 && (part > 1e-17 || part < -1e-17); n += 2) { sum += part / n; part *= square }
  return 2 * sum + twos * 0.6931471805599453
}

function antilog(x,  twos, term, sum, n) {
  if (!poor) return exp(x)
  if (x < -745) return 0
  twos = int(x / 0.6931471805599453)
  x -= twos * 0.6931471805599453
  for (n = sum = term = 1; term > 1e-17 || term < -1e-17; n++) { term *= x / n; sum += term }
  for (; twos > 0; twos--) sum *= 2
  for (; twos < 0; twos++) sum /= 2
  return sum
}
