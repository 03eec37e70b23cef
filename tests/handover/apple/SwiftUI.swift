// What the app uses of SwiftUI and Combine.

@_exported import UIKit
@_exported import UniformTypeIdentifiers

// Combine

public protocol Publisher<Output> { associatedtype Output }
extension NotificationCenter {
    public struct Sent: Publisher { public typealias Output = Notification }
    public func publisher(for name: Notification.Name, object: AnyObject? = nil) -> Sent { Sent() }
}

// views

@MainActor @preconcurrency
public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}

extension Never: View { public var body: Never { fatalError() } }
public protocol Leaf: View where Body == Never {}
extension Leaf { public var body: Never { fatalError() } }
public struct Piece: Leaf { public nonisolated init() {} }
public struct EmptyView: Leaf { public init() {} }
extension Optional: View where Wrapped: View { public var body: Never { fatalError() } }

@resultBuilder
public enum ViewBuilder {
    public static func buildExpression<V: View>(_ view: V) -> V { view }
    public static func buildBlock<each V: View>(_ views: repeat each V) -> Piece { Piece() }
    public static func buildBlock<V: View>(_ view: V) -> V { view }
    public static func buildOptional<V: View>(_ view: V?) -> V? { view }
    public static func buildEither<V: View>(first: V) -> Piece { Piece() }
    public static func buildEither<V: View>(second: V) -> Piece { Piece() }
}

public struct LocalizedStringKey: ExpressibleByStringInterpolation, Sendable { public init(stringLiteral value: String) {} }

public struct Text: Leaf {
    public init(_ key: LocalizedStringKey) {}
    @_disfavoredOverload public init<S: StringProtocol>(_ text: S) {}
    public init(verbatim: String) {}
    public init<F: FormatStyle>(_ input: F.FormatInput, format: F) where F.FormatOutput == String, F.FormatInput: Equatable {}
    public func font(_ font: Font?) -> Text { self }
    public func monospacedDigit() -> Text { self }
}

public struct Font: Sendable {
    public static let headline = Font(), subheadline = Font(), footnote = Font()
    public func monospaced() -> Font { self }
}

public struct Image: Leaf {
    public init(systemName: String) {}
    public init(_ image: CGImage, scale: CGFloat, label: Text) {}
    public func resizable() -> Image { self }
}

public struct Label<Title: View, Icon: View>: Leaf {
    public init(@ViewBuilder _ title: () -> Title, @ViewBuilder icon: () -> Icon) {}
}
extension Label where Title == Text, Icon == Image {
    public init(_ key: LocalizedStringKey, systemImage: String) {}
    @_disfavoredOverload public init<S: StringProtocol>(_ text: S, systemImage: String) {}
}

public struct Spacer: Leaf { public init() {} }
public enum HorizontalAlignment { case leading, center, trailing }
public enum VerticalAlignment { case top, center, firstTextBaseline }
public enum Alignment { case leading, center, trailing }
public enum ContentMode { case fit, fill }
public enum TextAlignment { case leading, center }

public struct VStack<C: View>: Leaf {
    public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> C) {}
}
public struct HStack<C: View>: Leaf {
    public init(alignment: VerticalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> C) {}
}
public struct ScrollView<C: View>: Leaf { public init(@ViewBuilder content: () -> C) {} }
public struct NavigationStack<C: View>: Leaf { public init(@ViewBuilder root: () -> C) {} }
public struct Group<C: View>: Leaf { public init(@ViewBuilder content: () -> C) {} }
public struct List<C: View>: Leaf { public init(@ViewBuilder content: () -> C) {} }
public struct TabView<C: View>: Leaf { public init(@ViewBuilder content: () -> C) {} }
public struct Menu<L: View, C: View>: Leaf { public init(@ViewBuilder content: () -> C, @ViewBuilder label: () -> L) {} }
public struct DisclosureGroup<C: View>: Leaf { public init(_ key: LocalizedStringKey, @ViewBuilder content: @escaping () -> C) {} }
public struct LabeledContent<C: View>: Leaf { public init<S: StringProtocol>(_ title: S, @ViewBuilder content: () -> C) {} }
public struct Link: Leaf { public init(_ key: LocalizedStringKey, destination: URL) {} }
public struct ShareLink<L: View>: Leaf { public init(item: URL, @ViewBuilder label: () -> L) {} }

public struct Section<H: View, C: View, F: View>: Leaf {}
extension Section where H == EmptyView {
    public init(@ViewBuilder content: () -> C, @ViewBuilder footer: () -> F) {}
}
extension Section {
    public init(@ViewBuilder content: () -> C, @ViewBuilder header: () -> H, @ViewBuilder footer: () -> F) {}
}
extension Section where H == Text, F == EmptyView {
    public init<S: StringProtocol>(_ title: S, @ViewBuilder content: () -> C) {}
}

public struct Button<L: View>: Leaf { public init(action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> L) {} }
extension Button where L == Text {
    public init<S: StringProtocol>(_ title: S, action: @escaping @MainActor () -> Void) {}
}

public struct ProgressView: Leaf {
    public init(_ key: LocalizedStringKey) {}
    public init<V: BinaryFloatingPoint>(value: V?, total: V = 1.0) {}
}

public struct ForEach<Data: RandomAccessCollection, ID: Hashable, C: View>: Leaf {
    public init(_ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> C) {}
}
extension ForEach where Data.Element: Identifiable, ID == Data.Element.ID {
    public init(_ data: Data, @ViewBuilder content: @escaping (Data.Element) -> C) {}
}

public struct GeometryProxy { public var size: CGSize { .zero } }
public struct GeometryReader<C: View>: Leaf { public init(@ViewBuilder content: @escaping (GeometryProxy) -> C) {} }

// shapes and styles

public protocol ShapeStyle: Sendable {}
public struct Color: ShapeStyle {}
extension ShapeStyle where Self == Color {
    public static var yellow: Color { Color() }
    public static var red: Color { Color() }
}
public struct Hierarchical: ShapeStyle {}
extension ShapeStyle where Self == Hierarchical {
    public static var secondary: Hierarchical { Hierarchical() }
    public static var quaternary: Hierarchical { Hierarchical() }
}
public protocol Shape: View {}
extension Shape {
    public func stroke<S: ShapeStyle>(_ style: S, lineWidth: CGFloat = 1) -> some View { Piece() }
    public func fill<S: ShapeStyle>(_ style: S) -> some View { Piece() }
}
public struct Rectangle: Shape, Leaf { public init() {} }
public struct RoundedRectangle: Shape, Leaf { public init(cornerRadius: CGFloat) {} }
public protocol PrimitiveButtonStyle {}
public struct BorderedProminent: PrimitiveButtonStyle {}
extension PrimitiveButtonStyle where Self == BorderedProminent { public static var borderedProminent: BorderedProminent { .init() } }

// modifiers

public struct AccessibilityTraits: OptionSet, Sendable {
    public let rawValue: Int
    public init(rawValue: Int) { self.rawValue = rawValue }
    public static let isImage = AccessibilityTraits(rawValue: 1)
}
public enum AccessibilityChildBehavior { case ignore, combine, contain }
public enum TitleDisplayMode { case inline, large }
public enum ToolbarItemPlacement { case primaryAction, automatic }
public protocol ToolbarContent {}
public struct ToolbarItemGroup<C: View>: ToolbarContent {
    public init(placement: ToolbarItemPlacement = .automatic, @ViewBuilder content: () -> C) {}
}
@resultBuilder
public enum ToolbarContentBuilder { public static func buildBlock<T: ToolbarContent>(_ item: T) -> T { item } }

extension View {
    public func padding() -> some View { Piece() }
    public func frame(width: CGFloat? = nil, height: CGFloat? = nil) -> some View { Piece() }
    public func frame(maxWidth: CGFloat? = nil, alignment: Alignment = .center) -> some View { Piece() }
    public func offset(x: CGFloat = 0, y: CGFloat = 0) -> some View { Piece() }
    public func font(_ font: Font?) -> some View { Piece() }
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { Piece() }
    public func multilineTextAlignment(_ alignment: TextAlignment) -> some View { Piece() }
    public func scaledToFit() -> some View { Piece() }
    public func aspectRatio(_ ratio: CGFloat?, contentMode: ContentMode) -> some View { Piece() }
    public func clipShape<S: Shape>(_ shape: S) -> some View { Piece() }
    public func overlay<V: View>(@ViewBuilder content: () -> V) -> some View { Piece() }
    public func disabled(_ off: Bool) -> some View { Piece() }
    public func navigationTitle<S: StringProtocol>(_ title: S) -> some View { Piece() }
    public func navigationBarTitleDisplayMode(_ mode: TitleDisplayMode) -> some View { Piece() }
    public func toolbar<T: ToolbarContent>(@ToolbarContentBuilder content: () -> T) -> some View { Piece() }
    public func tabItem<V: View>(@ViewBuilder _ label: () -> V) -> some View { Piece() }
    public func buttonStyle<S: PrimitiveButtonStyle>(_ style: S) -> some View { Piece() }
    public func accessibilityElement(children: AccessibilityChildBehavior = .ignore) -> some View { Piece() }
    public func accessibilityHidden(_ hidden: Bool) -> some View { Piece() }
    public func accessibilityLabel(_ key: LocalizedStringKey) -> some View { Piece() }
    @_disfavoredOverload public func accessibilityLabel<S: StringProtocol>(_ text: S) -> some View { Piece() }
    public func accessibilityAddTraits(_ traits: AccessibilityTraits) -> some View { Piece() }
    public func fileExporter<D: FileDocument>(isPresented: Binding<Bool>, document: D?, contentType: UTType, defaultFilename: String?,
                                              onCompletion: @escaping (Result<URL, any Error>) -> Void) -> some View { Piece() }
    public func onDisappear(perform action: (() -> Void)? = nil) -> some View { Piece() }
    public func onReceive<P: Publisher>(_ publisher: P, perform action: @escaping (P.Output) -> Void) -> some View { Piece() }
    public func task(priority: TaskPriority = .userInitiated,
                     @_inheritActorContext _ action: @escaping @Sendable () async -> Void) -> some View { Piece() }
    public func task<T: Equatable>(id: T, priority: TaskPriority = .userInitiated,
                                   @_inheritActorContext _ action: @escaping @Sendable () async -> Void) -> some View { Piece() }
}

// files

public struct FileDocumentReadConfiguration { public let file: FileWrapper }
public struct FileDocumentWriteConfiguration {}
public final class FileWrapper {
    public init(regularFileWithContents: Data) {}
    public var regularFileContents: Data? { nil }
}
public protocol FileDocument {
    static var readableContentTypes: [UTType] { get }
    init(configuration: ReadConfiguration) throws
    func fileWrapper(configuration: WriteConfiguration) throws -> FileWrapper
}
extension FileDocument {
    public typealias ReadConfiguration = FileDocumentReadConfiguration
    public typealias WriteConfiguration = FileDocumentWriteConfiguration
}

// state

@propertyWrapper
public struct State<Value> {
    public init(wrappedValue: Value) {}
    public var wrappedValue: Value { get { fatalError() } nonmutating set {} }
    public var projectedValue: Binding<Value> { fatalError() }
}
extension State where Value: ExpressibleByNilLiteral { public init() {} }

@propertyWrapper
public struct Binding<Value> {
    public init(get: @escaping () -> Value, set: @escaping (Value) -> Void) {}
    public var wrappedValue: Value { get { fatalError() } nonmutating set {} }
}

public enum ScenePhase: Equatable, Sendable { case background, inactive, active }
public struct EnvironmentValues { public var scenePhase: ScenePhase { .active } }

@propertyWrapper
public struct Environment<Value> {
    public init(_ path: KeyPath<EnvironmentValues, Value>) {}
    public var wrappedValue: Value { fatalError() }
}

// the app

@MainActor @preconcurrency
public protocol Scene {}
public struct WindowGroup<C: View>: Scene { public init(@ViewBuilder content: () -> C) {} }

@MainActor @preconcurrency
public protocol App {
    associatedtype Body: Scene
    var body: Body { get }
    init()
}
extension App { public static func main() {} }
