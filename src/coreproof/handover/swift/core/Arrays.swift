// Arrays: numbers into Core ML's multi-arrays and out of them.

import CoreML
import Foundation

enum Arrays {
    static func feature(_ values: [Float], shape: [Int], dtype: String) throws -> MLFeatureValue {
        let kinds: [String: MLMultiArrayDataType] = ["float16": .float16, "float64": .double, "int32": .int32]
        let kind = kinds[dtype] ?? .float32
        let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: kind)
        guard array.count == values.count else {
            throw Failure("The model takes \(array.count) numbers, not \(values.count).")
        }
        // an array that was made here is contiguous
        let data = array.dataPointer
        for (i, value) in values.enumerated() {
            switch kind {
            case .float16: data.storeBytes(of: Half.bits(value), toByteOffset: 2 * i, as: UInt16.self)
            case .double: data.storeBytes(of: Double(value), toByteOffset: 8 * i, as: Double.self)
            case .int32: data.storeBytes(of: Int32(value), toByteOffset: 4 * i, as: Int32.self)
            default: data.storeBytes(of: value, toByteOffset: 4 * i, as: Float.self)
            }
        }
        return MLFeatureValue(multiArray: array)
    }

    /// Row-major values, whatever the strides: the Neural Engine pads its rows.
    static func flat(_ array: MLMultiArray) -> [Float] {
        let (shape, strides) = (array.shape.map(\.intValue), array.strides.map(\.intValue))
        guard let inner = shape.last, let step = strides.last, inner > 0 else { return array.count == 1 ? [value(array, 0)] : [] }
        var values: [Float] = []
        values.reserveCapacity(array.count)
        var index = [Int](repeating: 0, count: shape.count - 1)
        for _ in 0..<(array.count / inner) {
            let start = zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 }
            for i in 0..<inner { values.append(value(array, start + i * step)) }
            for axis in index.indices.reversed() {
                index[axis] += 1
                if index[axis] < shape[axis] { break }
                index[axis] = 0
            }
        }
        return values
    }

    private static func value(_ array: MLMultiArray, _ offset: Int) -> Float {
        let data = array.dataPointer
        switch array.dataType {
        case .double: return Float(data.load(fromByteOffset: 8 * offset, as: Double.self))
        case .float32: return data.load(fromByteOffset: 4 * offset, as: Float.self)
        case .int32: return Float(data.load(fromByteOffset: 4 * offset, as: Int32.self))
        case .float16: return Half.float(data.load(fromByteOffset: 2 * offset, as: UInt16.self))
        default: return array[offset].floatValue
        }
    }
}
